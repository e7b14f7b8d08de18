"""`pause`: make the events of tenants wait in Kafka, as the next generation."""

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.options import DryRun, Json, Message, Session, SignKey, Yes
from muse_stream.cli.output import agreed, complain, note, say, show_changes, show_json
from muse_stream.errors import ConfigError, MuseError, Problem

if TYPE_CHECKING:
    from muse_stream.commands.pause import Prepared, Waits

Tenants = Annotated[list[str], typer.Argument(metavar="TENANT...", help="Names of tenants in the configuration.")]
FromStore = Annotated[
    str | None,
    typer.Option("--store", metavar="STORE", envvar="MUSE_STORE", help="Folder of the generation store, or its URL."),
]


def pause(
    context: typer.Context,
    tenants: Tenants,
    store: FromStore = None,
    message: Message = "",
    _sign_key: SignKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make the events of a tenant wait in Kafka, until `resume`: as the next generation, with who and why.

    Workers stop reading its event topic between two batches and keep its offsets; other tenants do not notice. What
    Kafka removes meanwhile is lost: the topic's retention and the oldest unread event are shown first. Tenants that
    share an event topic are paused together: name all of them.

    Examples:

    ```
    muse-stream pause acme --store /var/lib/muse/store --message "wrong currency since 9:00, ticket 1234"
    muse-stream pause acme --store redis://redis:6379 --dry-run
    muse-stream pause acme globex --store /var/lib/muse/store --yes
    ```

    Exit codes: 0 done, or paused already; 1 the answer was no, or somebody else published in between; 2 refused.
    """
    change(context.obj, tenants, store, message, paused=True, dry_run=dry_run, yes=yes, as_json=as_json)


def change(
    session: Session,
    tenants: list[str],
    store: str | None,
    message: str,
    *,
    paused: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Do what `pause` and `resume` do."""
    from muse_stream.commands.pause import prepare  # noqa: PLC0415
    from muse_stream.control import Note  # noqa: PLC0415

    if store is None:
        raise ConfigError([Problem("--store", "no store was given", "name a store with --store or MUSE_STORE")])
    names = ", ".join(tenants)
    prepared = prepare(tenants, store, paused=paused)
    if prepared is None:
        state = "paused already" if paused else "not paused"
        show_json({"changed": False}) if as_json else say(f"{names}: {state}; nothing was changed")
        return
    with closing(prepared.proposal.store):
        facts = _shown(prepared, session, as_json=as_json)
        if dry_run:
            show_json({"changed": False, **facts}) if as_json else say("nothing was changed")
            return
        if not agreed(f"{'Pause' if paused else 'Resume'} {names}?", yes=yes):
            raise typer.Exit(1)
        done = prepared.proposal.publish(Note(message or f"{'pause' if paused else 'resume'} {names}"))
    if as_json:
        show_json({"changed": True, **asdict(done), **facts})
        return
    says = f"paused, until `muse-stream resume {' '.join(tenants)}`" if paused else "resumed"
    say(f"generation {done.number} published and current: {names} {says}")


def _shown(prepared: "Prepared", session: Session, *, as_json: bool) -> dict[str, Any]:
    """Show what changes and what waits; return that as facts."""
    found = prepared.proposal
    if not as_json:
        if found.warnings:
            complain(found.warnings, style="yellow", title=f"{len(found.warnings)} warnings")
        show_changes(found.changes, title=f"changes to generation {found.before}, which is current")
    waits = _waits(prepared, session)
    for one in waits if not as_json else ():
        note(str(one), "red" if one.soon else "yellow" if prepared.paused else "")
        if one.removed and not prepared.paused:
            cure = f"muse-stream offsets set STORE {prepared.tenants[0]} --to earliest"
            note(f"    it goes on when somebody has said where: `{cure}` (or latest, answers)", "red")
    return {
        "before": found.before,
        "changes": [{**change.facts(), "says": str(change)} for change in found.changes],
        "waits": [{**asdict(one), "lost_from": one.lost_from, "says": str(one)} for one in waits],
    }


def _waits(prepared: "Prepared", session: Session) -> "tuple[Waits, ...]":
    """Ask what waits; a Kafka that is away is no reason not to pause."""
    try:
        return prepared.waits(session.kafka)
    except MuseError as error:
        note(f"what waits, and how long Kafka keeps it, is not known: {error}", "yellow")
        return ()
