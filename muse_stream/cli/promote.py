"""`promote`: make a shadow predictor live, on the evidence of the audit topics."""

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli import promote_steps
from muse_stream.cli.moments import duration_s, moment_ms
from muse_stream.cli.options import DryRun, Force, Json, Message, Session, SignKey, Yes, pairs
from muse_stream.cli.output import agreed, complain, note, say, show_changes, show_json, show_table
from muse_stream.errors import MuseError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from muse_stream.commands.evidence import Evidence, Window
    from muse_stream.commands.promote import Prepared
    from muse_stream.errors import Problem

When = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ATTRIBUTE=VALUE,...",
        help="Where: tenant=acme,channel=web. An attribute given twice may have either value. Default: every route "
        "that has the predictor as a shadow.",
    ),
]


Predictor = Annotated[
    str | None, typer.Argument(metavar="PREDICTOR", help="The predictor that becomes live; none with --resume.")
]
Steps = Annotated[
    str | None,
    typer.Option(metavar="SHARE,...", help="Take over step by step, for example 1%,10%,100% of the events."),
]
Hold = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="With --steps: how long each step is watched before the next. Default: 10m."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with an interrupted promotion by steps.")]
FromStore = Annotated[
    str | None,
    typer.Option("--store", metavar="STORE", envvar="MUSE_STORE", help="Folder of the generation store, or its URL."),
]
Write = Annotated[
    Path | None, typer.Option("--write", metavar="FILE", help="Change this configuration file; publish nothing.")
]
Since = Annotated[
    str | None, typer.Option(metavar="TIME|DURATION", help="Count audit records from then on: a time, or 12h, 7d.")
]
Events = Annotated[int, typer.Option(min=1, help="Count the latest so many events of each tenant.")]
Tolerance = Annotated[
    float, typer.Option(min=0.0, help="Share of a promised alert rate by which it may move: 0.2 is a fifth.")
]


def promote(
    context: typer.Context,
    predictor: Predictor = None,
    store: FromStore = None,
    when: When = None,
    write: Write = None,
    since: Since = None,
    events: Events = 200_000,
    tolerance: Tolerance = 0.2,
    steps: Steps = None,
    hold: Hold = None,
    resume: Resume = False,
    force: Force = None,
    message: Message = "",
    _sign_key: SignKey = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Make a shadow predictor live: on the evidence of its audit records, as the next generation.

    Changes the routes of the current generation (or of the file given by --write): the predictor becomes live, what
    was live becomes a shadow, a route that is wider than --when is split. Comments and order of the YAML stay.

    Shows, for each tenant and promised threshold, the alert rates of both predictors on the same events, the change
    with the margin within which it is known (95 %), how many of the live predictor's alerts the candidate raises too,
    and the events behind it. Refused when a rate would move by more than --tolerance, away from what was promised, when
    the evidence is too little to tell, or when the change can hurt a tenant otherwise; --force takes a reason.

    With --steps it answers a growing share of the events, decided by the event id. Each step is a generation and is
    watched for --hold; then the evidence is asked again. It goes back by itself when an alert rate leaves its band,
    dead letters rise or the latency doubles. Interrupted, `--resume` goes on, and `rollback` goes back.

    Examples:

    ```
    muse-stream promote card-v2 --store /var/lib/muse/store --dry-run
    muse-stream promote card-v2 --store /var/lib/muse/store --when tenant=acme,channel=web
    muse-stream promote card-v2 --store /var/lib/muse/store --since 7d --yes
    muse-stream promote card-v2 --write muse.yaml
    muse-stream promote card-v2 --store /var/lib/muse/store --steps 1%,10%,100% --hold 10m
    muse-stream promote --resume --store /var/lib/muse/store
    ```

    Exit codes: 0 done, 1 the answer was no, it went back, or somebody else published in between, 2 refused, 3 Kafka
    cannot be reached.
    """

    session: Session = context.obj
    if resume:
        alone = not any((predictor, steps, hold, when, write, since, force, dry_run))
        _resume(session, store, message, alone=alone, as_json=as_json)
        return
    if predictor is None:
        raise typer.BadParameter("name the predictor that becomes live", param_hint="PREDICTOR")
    given = _Given(predictor, _condition(when), tolerance, events, since, (force or "").strip(), message)
    if steps is not None or hold is not None:
        if steps is None or write is not None or since is not None:
            option = "--hold" if steps is None else "--write" if write is not None else "--since"
            why = "goes with --steps" if steps is None else "does not go with --steps, which publishes step by step"
            raise typer.BadParameter(why, param_hint=option)
        _by_steps(session, store, given, (steps, hold or "10m"), dry_run=dry_run, yes=yes, as_json=as_json)
        return
    _at_once(session, store, write, given, dry_run=dry_run, yes=yes, as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Given:
    """What was asked for."""

    predictor: str
    when: dict[str, list[str]] | None
    tolerance: float
    events: int
    since: str | None
    force: str
    message: str


def _at_once(
    session: Session, store: str | None, write: Path | None, given: _Given, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    from muse_stream.commands.evidence import Window  # noqa: PLC0415
    from muse_stream.commands.promote import prepare  # noqa: PLC0415

    predictor, reason = given.predictor, given.force
    window = Window(given.events, None if given.since is None else moment_ms(given.since, "--since"))
    prepared = prepare(predictor, given.when, store=store, file=write)
    if prepared is None:
        show_json({"ok": True, "changed": False}) if as_json else say(f"{predictor} is live there already")
        return
    with closing(prepared):
        facts = _weighed(prepared, session, window, reason, given.tolerance, as_json=as_json)
        refused = not facts["ok"] and not reason
        if dry_run or refused:
            if as_json:
                show_json({"changed": False, **facts})
            elif not refused:
                say("nothing was changed")
            raise typer.Exit(2 if refused else 0)
        if not agreed(f"Make {predictor} live?", yes=yes):
            raise typer.Exit(1)
        _carry_out(prepared, given.message, facts, as_json=as_json)


def _by_steps(
    session: Session,
    store: str | None,
    given: _Given,
    steps: tuple[str, str],
    *,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    from muse_stream.commands.gradual import Plan  # noqa: PLC0415

    shares, hold_s = promote_steps.shares(steps[0]), duration_s(steps[1], "--hold")
    plan = Plan(given.predictor, shares, hold_s, when=given.when, tolerance=given.tolerance, events=given.events,
                force=given.force)  # fmt: skip

    def weigh(prepared: "Prepared", found: "Sequence[Evidence]", against: "Sequence[Problem]") -> dict[str, Any]:
        return _told(prepared, found, against, given.force, given.tolerance, as_json=as_json)

    promote_steps.walk(session, _named(store), plan, weigh, given.message, dry_run=dry_run, yes=yes, as_json=as_json)


def _resume(session: Session, store: str | None, message: str, *, alone: bool, as_json: bool) -> None:
    if not alone:
        raise typer.BadParameter("goes on with what was begun: it takes --store, --message and --json only",
                                 param_hint="--resume")  # fmt: skip
    promote_steps.go_on(session, _named(store), message, as_json=as_json)


def _named(store: str | None) -> str:
    if store is None:
        raise typer.BadParameter("name a store with --store or MUSE_STORE", param_hint="--store")
    return store


def _weighed(
    prepared: "Prepared", session: Session, window: "Window", reason: str, tolerance: float, *, as_json: bool
) -> dict[str, Any]:
    """Show what changes, the evidence, and what speaks against it; return all of that."""
    found = _evidence(prepared, session, window, forced=bool(reason))
    return _told(prepared, found, prepared.refused(found, tolerance), reason, tolerance, as_json=as_json)


def _told(
    prepared: "Prepared",
    found: "Sequence[Evidence]",
    against: "Sequence[Problem]",
    reason: str,
    tolerance: float,
    *,
    as_json: bool,
) -> dict[str, Any]:
    if not as_json:
        _show(prepared)
        _show_evidence(found, prepared.candidate)
    if against:
        refused = f"refused: {prepared.candidate} is not promoted; if it is meant: --force REASON"
        complain(against, style="yellow" if reason else "red", title=f"forced: {reason}" if reason else refused)
    return _facts(prepared, found, against, forced=reason, tolerance=tolerance)


def _evidence(prepared: "Prepared", session: Session, window: "Window", *, forced: bool) -> "tuple[Evidence, ...]":
    """Read the evidence; who goes on without it need not have a Kafka that answers."""
    try:
        return prepared.evidence(session.kafka, window)
    except MuseError as error:
        if not forced:
            raise
        note(f"there is no evidence: {error}", "yellow")
        return ()


def _condition(given: list[str] | None) -> dict[str, list[str]] | None:
    if given is None:
        return None
    condition: dict[str, list[str]] = {}
    for text in (part for one in given for part in one.split(",")):
        ((name, value),) = pairs([text], "--when").items()
        condition.setdefault(name, []).append(value)
    return condition


def _show(prepared: "Prepared") -> None:
    if prepared.warnings:
        complain(prepared.warnings, style="yellow", title=f"{len(prepared.warnings)} warnings")
    start = prepared.base.source.path if prepared.number is None else f"generation {prepared.number}, which is current"
    show_changes(prepared.changes, title=f"changes to {start}")


def _show_evidence(found: "Sequence[Evidence]", predictor: str) -> None:
    rows: list[dict[str, Any]] = [
        {
            "tenant": one.tenant,
            "threshold": f"{at.threshold:g}",
            "promised": f"{100 * at.promised:.3g} %",
            "live": f"{100 * at.live:.3g} %",
            "candidate": f"{100 * at.candidate:.3g} %",
            "change, in points": f"{100 * at.change:+.2f} ± {100 * at.margin:.2f}",
            "agreement": "" if at.agreement is None else f"{100 * at.agreement:.0f} %",
            "events": one.events,
            "entities": one.entities,
        }
        for one in found
        for at in one.comparisons
    ]
    if rows:
        right = tuple(name for name in rows[0] if name != "tenant")
        show_table(f"alert rates of {predictor} beside the live predictor, on the same events", rows, right=right)
    for one in found:
        if one.events and not one.comparisons:
            note(f"tenant {one.tenant}: {one.events:,} events, and no promised threshold to compare at")


def _facts(
    prepared: "Prepared", found: "Sequence[Evidence]", against: "Sequence[Problem]", *, forced: str, tolerance: float
) -> dict[str, Any]:
    return {
        "ok": not against,
        "changes": [{**change.facts(), "says": str(change)} for change in prepared.changes],
        "tolerance": tolerance,
        "replaced": prepared.where(),
        "evidence": [asdict(one) for one in found],
        "against": [problem.message for problem in against],
        **({"force": forced} if forced else {}),
    }


def _carry_out(prepared: "Prepared", message: str, facts: dict[str, Any], *, as_json: bool) -> None:
    from muse_stream.control import Note  # noqa: PLC0415

    if prepared.proposal is None:
        path = prepared.write()
        show_json({"changed": True, "file": str(path), **facts}) if as_json else say(f"{path} changed; publish it")
        return
    kept = {"promoted": prepared.candidate, **{name: facts[name] for name in facts if name not in ("ok", "changes")}}
    done = prepared.publish(Note(message or f"promote {prepared.candidate}", evidence=kept))
    if as_json:
        show_json({"changed": True, **asdict(done), **facts})
    else:
        say(f"generation {done.number} published and current: {prepared.candidate} is live")
