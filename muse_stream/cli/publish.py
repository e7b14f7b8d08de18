"""`publish`: store a configuration as a generation and make it current."""

from dataclasses import asdict
from typing import Annotated

import typer

from muse_stream.cli.options import File, Json, Message, Store
from muse_stream.cli.output import say, show_json
from muse_stream.cli.store_option import StoreOption


def publish(
    file: File,
    store: Store,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Store it, but leave what is current as it is.")
    ] = False,
    message: Message = "",
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Check a configuration, store it as a new generation and make it current.

    Running workers compile it off the hot path and swap between two batches. The same content as the current
    generation's changes nothing. Refused when anything is wrong, or when somebody else published in between.

    Examples:

    ```
    muse-stream publish muse.yaml /var/lib/muse/store
    muse-stream publish muse.yaml --store redis://redis:6379 --message "card-v2 for acme"
    muse-stream publish muse.yaml /var/lib/muse/store --no-activate
    ```
    """
    from muse_stream.commands import publish  # noqa: PLC0415
    from muse_stream.control import Note  # noqa: PLC0415

    done = publish.publish(file, store, activate=not no_activate, note=Note(message))
    if as_json:
        show_json({**asdict(done), "changed": done.changed})
    elif not done.changed:
        say(f"generation {done.number} is current already and has the same content")
    else:
        say(f"generation {done.number} published" + (" and current" if done.current else ", not current"))
