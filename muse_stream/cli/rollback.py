"""`rollback`: make an older generation current again."""

from contextlib import closing
from typing import Annotated

import typer

from muse_stream.cli.options import DryRun, Json, Message, SignKey, Store, Yes
from muse_stream.cli.output import agreed, note, say, show_changes, show_json
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
    _sign_key: SignKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Make an older generation current again; workers swap within a second.

    Shows what that changes, as `diff` does, and asks. A current generation that is broken keeps nobody from it.

    Examples:

    ```
    muse-stream rollback /var/lib/muse/store
    muse-stream rollback --store redis://redis:6379 --to 7 --yes --message "8 blocks too many"
    ```
    """
    from muse_stream.commands.rollback import prepare  # noqa: PLC0415
    from muse_stream.control import Note, open_store  # noqa: PLC0415

    with closing(open_store(store)) as opened:
        found = prepare(opened, to)
        facts = {"changes": None if found.changes is None else [change.facts() for change in found.changes]}
        if not as_json:
            if found.changes is None:
                note(f"what it changes is not known: {found.unknown}", "yellow")
            else:
                show_changes(found.changes, title=f"generation {found.before} -> {found.target}")
        if dry_run:
            if as_json:
                show_json({"before": found.before, "would_be_current": found.target, **facts})
            else:
                say(f"generation {found.target} would be current (is {found.before})")
            return
        if not agreed(f"Go back to generation {found.target}?", yes=yes):
            raise typer.Exit(1)
        found.carry_out(Note(message))
    if as_json:
        show_json({"before": found.before, "current": found.target, **facts})
    else:
        say(f"generation {found.target} is current (was {found.before})")
