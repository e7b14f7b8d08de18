"""`dlq list`, `dlq show`, `dlq replay`: a tenant's dead letters."""

import json
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.moments import moment_ms
from muse_stream.cli.options import Config, Json, Redact, Session, Tenant
from muse_stream.cli.output import note, progress, say, show_json, show_line, show_table
from muse_stream.cli.store_option import ConfigCommand, StoreOption
from muse_stream.errors import MuseError, Reason

if TYPE_CHECKING:
    from muse_stream.commands.dlq import Plan, Selection
    from muse_stream.commands.dlq_replay import Sent

LONGEST_SHOWN = 400
"""Bytes of a value on a terminal; --json has all of them."""

dlq = typer.Typer(
    name="dlq",
    help="List, look at and replay a tenant's dead letters: events that could not be scored (docs/dead-letters.md).",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Reasons = Annotated[
    list[str] | None, typer.Option("--reason", help="Only letters with this reason; may be given several times.")
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME|DURATION",
        help="Only letters written from then on: 2026-11-26T08:00:00Z, or so long ago: 90m, 12h, 7d.",
    ),
]
Unknown = Annotated[
    bool,
    typer.Option(
        "--unknown",
        help="Take the letters of the tenant's shared event topic that name no tenant, from the lane's topic.",
    ),
]


class Timestamps(StrEnum):
    """Which Kafka timestamp replayed events get."""

    AUTO = "auto"
    NOW = "now"
    SOURCE = "source"


@dlq.command("list", cls=ConfigCommand)
def list_(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    sample: Annotated[int, typer.Option(min=0, help="Show this many of the newest letters.")] = 3,
    unknown: Unknown = False,
    redact: Redact = False,
    _store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Count a tenant's dead letters by reason, and show the newest.

    waiting: not sent again yet; replayed: sent; failed again: sent once and refused again; duplicate: another letter is
    about the same event.

    Example:

    ```
    muse-stream dlq list muse.yaml acme
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.dlq import list_letters  # noqa: PLC0415

    session: Session = context.obj
    with progress("reading dead letters") as update:
        found = list_letters(
            open_configuration(config), session.kafka, _selection(tenant, unknown), sample, _counting(update)
        )
    sample_of = _redacted(found.sample, redact=redact)
    if as_json:
        return show_json({**asdict(found), "sample": sample_of})
    rows = [{**row, "oldest": _time(row["oldest"]), "newest": _time(row["newest"])} for row in found.reasons]
    total = sum(row["letters"] for row in found.reasons)
    right = ("letters", "waiting", "replayed", "failed again", "duplicate")
    show_table(f"{found.topic}: {total:,} dead letters of {tenant}", rows, right=right)
    for letter in sample_of:
        say(_line(letter))
    for text in found.notes:
        note(text, "yellow")


@dlq.command(cls=ConfigCommand)
def show(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    reason: Reasons = None,
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, help="Show this many letters, the newest.")] = 10,
    unknown: Unknown = False,
    redact: Redact = False,
    _store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Show dead letters whole: why, where the event was, its headers, key and bytes, and the event decoded.

    With --json, a letter a line.

    Examples:

    ```
    muse-stream dlq show muse.yaml acme --reason unknown-schema --limit 1
    muse-stream dlq show muse.yaml acme --redact
    muse-stream dlq show muse.yaml acme --json | jq .message
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.dlq import show_letters  # noqa: PLC0415

    session: Session = context.obj
    selection = _selection(tenant, unknown, reason, since, limit)
    with progress("reading dead letters") as update:
        letters = show_letters(open_configuration(config), session.kafka, selection, _counting(update))
    for letter in _redacted(letters, redact=redact):
        show_line(letter) if as_json else _show(letter)
    if not letters:
        note("no such dead letters")


@dlq.command(cls=ConfigCommand)
def replay(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    reason: Reasons = None,
    since: Since = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most this many, the oldest letters first.")] = None,
    to_topic: Annotated[str | None, typer.Option(help="Send to this topic; default: the tenant's event topic.")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send also events that have been sent again before and were refused again.")
    ] = False,
    timestamps: Annotated[
        Timestamps,
        typer.Option(
            help="Kafka timestamp of the events: now, source (what they had), or source where it may be read."
        ),
    ] = Timestamps.AUTO,
    unknown: Unknown = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent, send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Send without asking.")] = False,
    _store: StoreOption = None,
    as_json: Json = False,
) -> None:
    """Send the events of dead letters to their event topic again: bytes, key and headers as they were.

    Each event is sent once, however often this is interrupted and called, with whichever options. A record that is
    refused again stays a dead letter and is sent once more only with --again.

    Examples:

    ```
    muse-stream dlq replay muse.yaml acme --reason unknown-schema --dry-run
    muse-stream dlq replay muse.yaml acme --reason unknown-schema --since 2h --yes
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.dlq import plan_replay  # noqa: PLC0415

    session: Session = context.obj
    selection = _selection(tenant, unknown, reason, since, limit, again=again)
    configuration, settings = open_configuration(config), session.kafka
    with progress("reading dead letters") as update:
        plan = plan_replay(configuration, settings, selection, to_topic, timestamps.value, _counting(update))
    if not as_json:
        _show_plan(plan)
    for text in plan.notes:
        note(text, "yellow")
    sent = None
    if plan.rows and not dry_run:
        _ask(plan, yes)
        sent = _carry_out(settings, plan)
    if as_json:
        show_json({**_planned(plan), "sent": None if sent is None else asdict(sent)})
    elif sent is not None:
        say(_report(sent, plan))
    if sent is not None and sent.refused:
        raise typer.Exit(1)


def _redacted(letters: list[dict[str, Any]], *, redact: bool) -> list[dict[str, Any]]:
    from muse_stream.commands.redaction import Redaction  # noqa: PLC0415

    redaction = Redaction()
    return [redaction(letter, ours=True) for letter in letters] if redact else letters


def _ask(plan: "Plan", yes: bool) -> None:
    if not yes and not typer.confirm(f"Send {_events(len(plan.rows))} to {plan.route.topic}?", err=True):
        note("nothing was sent")
        raise typer.Exit(1)


def _counting(update: Callable[[int, int | None, str], None]) -> Callable[[int, int], object]:
    return lambda done, total: update(done, total, "")


def _carry_out(settings: Any, plan: "Plan") -> "Sent":
    from muse_stream.commands.dlq import Carrying  # noqa: PLC0415

    with progress(f"sending to {plan.route.topic}", len(plan.rows)) as update:
        carrying = Carrying(settings, plan, lambda sent: update(sent, None, ""))
        try:
            sent = carrying.run()
        except KeyboardInterrupt:
            note(f"interrupted: {_report(carrying.outcome, plan)}; {MORE}", "yellow")
            raise
        except MuseError as error:
            raise type(error)(f"{error}; {_report(carrying.outcome, plan)}; {MORE}") from None
    for text in sent.refused:
        note(f"not taken: {text}", "red")
    return sent


MORE = "it is remembered what was sent: the same command sends the rest"


def _report(sent: "Sent", plan: "Plan") -> str:
    parts = [f"{sent.sent:,} of {_events(sent.wanted)} sent to {plan.route.topic}"]
    if sent.doubtful:
        parts.append(f"{sent.doubtful:,} more were in a transaction of which it is not known whether it was committed")
    if sent.elsewhere:
        parts.append(f"{sent.elsewhere:,} had been sent by another replay meanwhile")
    if sent.gone:
        parts.append(f"{sent.gone:,} were removed from {plan.topic} before they could be read")
    if sent.refused:
        parts.append(f"{len(sent.refused):,} were not taken by Kafka")
    return ", ".join(parts)


def _show_plan(plan: "Plan") -> None:
    rows = [{"reason": reason, "events": count} for reason, count in sorted(plan.reasons.items())]
    title = f"{plan.topic}: {_events(len(plan.rows))} to send to {plan.route.topic}"
    show_table(title, rows, right=("events",))
    if plan.places:
        where = ", ".join(f"{place}: {count:,}" for place, count in plan.places.items())
        time_ = "the Kafka timestamp they had" if plan.route.keep_time else "the present time"
        say(f"by partition of {plan.route.topic}: {where}; with {time_}")
    if plan.left:
        say("not sent: " + ", ".join(f"{count:,} {state}" for state, count in plan.left.items()))


def _planned(plan: "Plan") -> dict[str, Any]:
    return {
        "topic": plan.topic,
        "to": plan.route.topic,
        "timestamps": "source" if plan.route.keep_time else "now",
        "events": len(plan.rows),
        "reasons": plan.reasons,
        "partitions": plan.places,
        "not_sent": plan.left,
        "notes": plan.notes,
    }


def _events(count: int) -> str:
    return f"{count:,} event" if count == 1 else f"{count:,} events"


def _selection(
    tenant: str,
    unknown: bool,
    reasons: list[str] | None = None,
    since: str | None = None,
    limit: int | None = None,
    *,
    again: bool = False,
) -> "Selection":
    from muse_stream.commands.dlq import Selection  # noqa: PLC0415
    from muse_stream.commands.dlq_survey import Filter  # noqa: PLC0415

    known = [str(one) for one in Reason]
    for reason in reasons or []:
        if reason not in known:
            raise typer.BadParameter(f"there is no reason '{reason}': {', '.join(known)}", param_hint="--reason")
    moment = None if since is None else moment_ms(since, "--since")
    return Selection(tenant, unknown, Filter(tuple(reasons or ()), moment, limit, again))


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if ms >= 0 else "?"


def _line(letter: dict[str, Any]) -> str:
    place = letter["_kafka"]
    where = f"{place['partition']}@{place['offset']}"
    return f"{where:>12}  {letter.get('reason', '?'):<18} {letter['source']}  {letter.get('message', '')}"


def _show(letter: dict[str, Any]) -> None:
    """Print one letter on several lines."""
    place = letter["_kafka"]
    say(f"{place['partition']}@{place['offset']}  {_time(place['timestamp'])}  {letter['state']}", "bold")
    for name in ("reason", "stage", "message", "source", "tenant", "generation", "worker"):
        if letter.get(name):
            say(f"  {name + ':':<12}{letter[name]}")
    if letter["replays"]:
        say(f"  {'replays:':<12}{letter['replays']} before this refusal")
    key = "none" if place["key"] is None else f"{place['key']}  (hex {letter['key_hex']})"
    say(f"  {'key:':<12}{key}")
    for name, value in letter["headers"]:
        say(f"  {'header:':<12}{name}={'' if value is None else value}")
    if letter["event"] is not None:
        say(f"  {'event:':<12}{json.dumps(letter['event'], default=str)}")
    else:
        say(f"  {'event:':<12}cannot be decoded: {letter['undecodable']}")
    text, code = letter["value_text"], letter["value_hex"]
    if code is None:
        say(f"  {'bytes:':<12}none: a record without a value")
    else:
        more = f" ... {letter['bytes']:,} bytes, --json has all" if letter["bytes"] > LONGEST_SHOWN else ""
        say(f"  {'bytes:':<12}{code[: 2 * LONGEST_SHOWN]}{more}")
    if text:
        say(f"  {'text:':<12}{text[:LONGEST_SHOWN]}")
