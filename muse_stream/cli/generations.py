"""`publish`, `generations` and `rollback`: what workers are told to serve.

In: a configuration, a generation store. Out: numbers.
Law: see `muse_stream.cli`.
"""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from muse_stream.cli.screen import say, show_json, show_table
from muse_stream.cli.session import File, Json, StorePath


def register(program: typer.Typer) -> None:
    """Add the commands of this group."""
    program.command()(publish)
    program.command()(generations)
    program.command()(rollback)


def publish(
    file: File,
    store: StorePath,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Store it, but leave what is current as it is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check a configuration, store it as a new generation and make it current.

    Running workers compile it off the hot path and swap between two batches. The same content as the current
    generation's changes nothing. Refused when anything is wrong, or when somebody else published in between.

    Examples:

    ```
    muse-stream publish muse.yaml /var/lib/muse/store
    muse-stream publish muse.yaml /var/lib/muse/store --no-activate
    ```
    """
    from muse_stream.operations import releases  # noqa: PLC0415

    done = releases.publish(file, store, activate=not no_activate)
    if as_json:
        show_json({**asdict(done), "changed": done.changed})
    elif not done.changed:
        say(f"generation {done.number} is current already and has the same content")
    else:
        say(f"generation {done.number} published" + (" and current" if done.current else ", not current"))


def generations(store: StorePath, as_json: Json = False) -> None:
    """List the generations of a store and which one is current.

    Examples:

    ```
    muse-stream generations /var/lib/muse/store
    ```
    """
    from muse_stream.control import DirectoryStore  # noqa: PLC0415

    directory = DirectoryStore(store)
    current = directory.current()
    rows: list[dict[str, Any]] = [{"current": entry.number == current, **asdict(entry)} for entry in directory.list()]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        row["current"] = "*" if row["current"] else ""
        row["sha256"] = row["sha256"][:12]
        row["created"] = row["created"].isoformat(sep=" ", timespec="seconds") if row["created"] else ""
    title = f"{store}: {'no generation' if not rows else 'generations'}"
    show_table(title, rows, right=("number", "parent", "files"))


def rollback(
    store: StorePath,
    to: Annotated[
        int | None, typer.Option("--to", help="Generation to go back to; default: the current one's parent.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an older generation current again; workers swap within a second.

    Examples:

    ```
    muse-stream rollback /var/lib/muse/store
    muse-stream rollback /var/lib/muse/store --to 7
    ```
    """
    from muse_stream.control import DirectoryStore  # noqa: PLC0415

    directory = DirectoryStore(store)
    before = directory.current()
    now = directory.rollback(to)
    if as_json:
        show_json({"before": before, "current": now})
    else:
        say(f"generation {now} is current (was {before})")
