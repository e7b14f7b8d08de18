"""`schemas register`, `schemas fetch`: schemas in a Schema Registry."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream.cli.options import Config, DryRun, Json
from muse_stream.cli.output import say, show_json, show_table
from muse_stream.cli.store_option import ConfigCommand, StoreOption

if TYPE_CHECKING:
    from muse_stream.commands.schemas import Registration

schemas = typer.Typer(
    name="schemas",
    help="Register what workers write in a Schema Registry, or fetch what events are written with"
    " (docs/schema-registry.md).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


class Level(StrEnum):
    """What the registry asks of the next version of a subject."""

    BACKWARD = "BACKWARD"
    BACKWARD_TRANSITIVE = "BACKWARD_TRANSITIVE"
    FORWARD = "FORWARD"
    FORWARD_TRANSITIVE = "FORWARD_TRANSITIVE"
    FULL = "FULL"
    FULL_TRANSITIVE = "FULL_TRANSITIVE"
    NONE = "NONE"


@schemas.command("register", cls=ConfigCommand)
def register(
    config: Config,
    compatibility: Annotated[
        Level, typer.Option(help="Level that every subject is given.", case_sensitive=False)
    ] = Level.FULL_TRANSITIVE,
    dry_run: DryRun = False,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Register the schemas of scores and audit records for a configuration's topics, each with a compatibility level.

    The registry is the one that MUSE_REGISTRY_URL names; subjects are named as `topics.subjects` says. What is
    registered already stays as it is. `topics.frame: confluent` needs it; readers may want it all the same. With
    --dry-run the exit code is 1 when something is missing.

    Examples:

    ```
    export MUSE_REGISTRY_URL=https://registry:8081
    muse-stream schemas register muse.yaml --dry-run
    muse-stream schemas register muse.yaml --compatibility FULL_TRANSITIVE
    ```
    """
    from muse_stream.commands import schemas as commands  # noqa: PLC0415
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415

    with commands.client() as registry:
        found = commands.look(open_configuration(config), registry)
        wanting = [one for one in found if one.state != "registered" or one.compatibility != compatibility.value]
        shown = found if dry_run else commands.register(registry, found, compatibility.value)
    if as_json:
        show_json([asdict(one) for one in shown])
    else:
        _show(shown, "as it is" if dry_run else f"{len(wanting)} registered or set" if wanting else "nothing to do")
    if dry_run and wanting:
        raise typer.Exit(1)


def _show(found: "Sequence[Registration]", verdict: str) -> None:
    rows = [{**asdict(one), "topics": ", ".join(one.topics)} for one in found]
    show_table(f"{len(rows)} subjects: {verdict}", rows, right=("id",))


@schemas.command("fetch")
def fetch(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Subject in the registry.")],
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="File to write, in the `schemas` folder.")],
    version: Annotated[int | None, typer.Option(min=1, help="Version; default: the latest.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a schema of the registry into a file, with all types that it refers to: what events are to be read as.

    The reader's schema is part of a configuration, so that a generation always reads the same. Fetch it once, and again
    when models shall use new fields; what producers write may change meanwhile.

    Example:

    ```
    muse-stream schemas fetch muse.events.acme-value --to schemas/event.avsc
    ```
    """
    from muse_stream.commands import schemas as commands  # noqa: PLC0415

    with commands.client() as registry:
        done = commands.fetch(registry, subject, version, to, overwrite=overwrite)
    if as_json:
        show_json(asdict(done))
    else:
        say(f"{done.file}: {done.record}, version {done.version} of {done.subject}, id {done.id}")
