"""`rollback`: make an older generation current again."""

from typing import Annotated

import typer

from muse_stream.cli.options import Json, Message, Store
from muse_stream.cli.output import say, show_json
from muse_stream.cli.store_option import StoreOption


def rollback(
    store: Store,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            help="Generation to go back to; default: the current one's parent, or what was before `promote --steps`.",
        ),
    ] = None,
    message: Message = "",
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Make an older generation current again; workers swap within a second.

    Examples:

    ```
    muse-stream rollback /var/lib/muse/store
    muse-stream rollback --store redis://redis:6379 --to 7 --message "8 blocks too many"
    ```
    """
    from muse_stream import control  # noqa: PLC0415

    opened = control.open_store(store)
    before = opened.current()
    now = control.rollback(opened, to, control.Note(message))
    if as_json:
        show_json({"before": before, "current": now})
    else:
        say(f"generation {now} is current (was {before})")
