"""`publish`: store a configuration as a generation and make it current."""

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.options import DryRun, File, Force, Json, Message, SignKey, Store, Yes
from muse_stream.cli.output import agreed, complain, note, say, show_changes, show_json
from muse_stream.cli.store_option import StoreOption

if TYPE_CHECKING:
    from muse_stream.commands.publish import Proposal


def publish(
    file: File,
    store: Store,
    no_activate: Annotated[
        bool, typer.Option("--no-activate", help="Store it, but leave what is current as it is.")
    ] = False,
    force: Force = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where it takes back what a generation meanwhile has brought.")
    ] = False,
    message: Message = "",
    _sign_key: SignKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Check a configuration, show what it changes, store it as a new generation and make it current.

    Shows the difference to the current generation, as `diff` does, with every warning of `check`, and asks. Running
    workers compile the new generation off the hot path and swap between two batches.

    What can hurt a tenant needs --force with a reason: a tenant gone, a promise (reference) changed, a quantile map
    gone, a map that was fitted on another tenant's scores, other content under the same predictor name and version. A
    file that is older than the current generation, and would take back a promotion made meanwhile, needs --replace.

    Examples:

    ```
    muse-stream publish muse.yaml /var/lib/muse/store
    muse-stream publish muse.yaml /var/lib/muse/store --dry-run
    muse-stream publish muse.yaml /var/lib/muse/store --yes --force "umbrella left on May 1"
    muse-stream publish muse.yaml --store redis://redis:6379 --message "card-v2 shadows acme"
    muse-stream publish muse.yaml /var/lib/muse/store --no-activate
    ```

    Exit code 2 when it is refused, 1 when the answer was no, or when somebody else published in between.
    """
    from muse_stream.commands.publish import propose  # noqa: PLC0415
    from muse_stream.control import Note  # noqa: PLC0415

    with closing((found := propose(file, store)).store):
        if not as_json:
            _show(found)
        refused = [] if no_activate else found.refused(force=force, replace=replace)
        if refused:
            complain(refused, style="red", title="refused: this can hurt a tenant, or undo what somebody else has done")
        if dry_run or refused:
            if as_json:
                show_json({"ok": not refused, **_facts(found)})
            elif not refused:
                say("nothing was published")
            raise typer.Exit(2 if refused else 0)
        if found.before is not None and found.changes and not no_activate and not agreed("Publish it?", yes=yes):
            raise typer.Exit(1)
        evidence = {"force": force} if force and found.harmful else None
        done = found.publish(Note(message, evidence=evidence), activate=not no_activate)
    if as_json:
        show_json({**asdict(done), "changed": done.changed, **(_facts(found) if done.changed else {})})
    elif not done.changed:
        say(f"generation {done.number} is current already and has the same content")
    else:
        say(f"generation {done.number} published" + (" and current" if done.current else ", not current"))


def _show(found: "Proposal") -> None:
    if found.warnings:
        count = len(found.warnings)
        complain(found.warnings, style="yellow", title=f"{count} warning{'' if count == 1 else 's'}")
    if found.before is not None:
        show_changes(found.changes, title=f"changes to generation {found.before}, which is current")
    elif found.changes:
        show_changes(found.changes, title="")
    else:
        note("nothing was published yet")


def _facts(found: "Proposal") -> dict[str, Any]:
    return {
        "before": found.before,
        "changes": [change.facts() for change in found.changes],
        "warnings": [asdict(warning) for warning in found.warnings],
        "undone": [
            {"generation": one.generation, "changes": [two.facts() for two in one.changes]} for one in found.undone
        ],
    }
