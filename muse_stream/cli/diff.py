"""`diff`: what differs between two generations, or files, in the words of the domain."""

from typing import Annotated

import typer

from muse_stream.cli.options import Json
from muse_stream.cli.output import show_changes, show_json

Side = Annotated[
    str, typer.Argument(help="Number of a generation of --store, `current`, or a configuration file (YAML).")
]


def diff(
    old: Side,
    new: Side,
    store: Annotated[
        str | None,
        typer.Option(metavar="STORE", envvar="MUSE_STORE", help="Folder of the generation store, or its URL."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what differs between two generations or files: tenants, routes, predictors, maps, promises, models, limits.

    Routes are compared by who answers whom, not by how they are written. A change that can hurt a tenant is marked:
    `publish` asks for a reason.

    Examples:

    ```
    muse-stream diff 41 42 --store /var/lib/muse/store
    muse-stream diff current muse.yaml --store /var/lib/muse/store
    muse-stream diff yesterday/muse.yaml muse.yaml --json
    ```
    """
    from muse_stream.commands.configuration import open_side  # noqa: PLC0415
    from muse_stream.commands.difference import differences  # noqa: PLC0415

    found = differences(open_side(old, store), open_side(new, store))
    if as_json:
        show_json([{**change.facts(), "says": str(change)} for change in found])
    else:
        show_changes(found, title=f"{old} -> {new}")
