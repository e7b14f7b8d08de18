"""`export`: a generation as files."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from muse_stream.cli.options import Json
from muse_stream.cli.output import say, show_json
from muse_stream.cli.pause import FromStore
from muse_stream.errors import ConfigError, Problem


def export(
    generation: Annotated[str, typer.Argument(metavar="GEN", help="Number of a generation, or `current`.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to: a new or an empty one.")],
    store: FromStore = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Also into a folder that is not empty: replace files of the same names."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a generation into a folder: its YAML and every file it names, ready to `check` and to `publish` elsewhere.

    Every file is verified against the hash it was published with. Publishing the folder to another store gives the same
    content hash, and the same scores.

    Examples:

    ```
    muse-stream export 41 acme-41 --store /var/lib/muse/store
    muse-stream export current /tmp/now --store redis://muse-worker@redis:6379
    muse-stream check acme-41/muse.yaml && muse-stream publish acme-41/muse.yaml --store /mnt/other/store
    ```

    Exit codes: 0 done, 1 the generation is damaged or cannot be written, 2 refused: a folder that is not empty.
    """
    from muse_stream.commands.export import export as carry_out  # noqa: PLC0415

    if store is None:
        raise ConfigError([Problem("--store", "no store was given", "name a store with --store or MUSE_STORE")])
    done = carry_out(generation, folder, store, overwrite=overwrite)
    if as_json:
        show_json(asdict(done))
    else:
        say(f"generation {done.number} written to {done.document}: {done.files} files, {done.bytes:,} bytes")
