"""`verify`: was every event answered exactly once?"""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.moments import moment_ms, offsets
from muse_stream.cli.options import Config, Json, Session
from muse_stream.cli.output import note, progress, say, show_json, show_table
from muse_stream.cli.store_option import StoreOption

if TYPE_CHECKING:
    from muse_stream.verify import Report

SHOWN = 3
"""Examples of each finding in the table; JSON has more."""


class UpTo(StrEnum):
    """How far `verify` looks."""

    END = "end"
    COMMITTED = "committed"


Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME|DURATION",
        help="Judge events sent, and answers written, from then on: 2026-11-26T08:00:00Z, or so long ago: 12h, 7d.",
    ),
]
FromOffset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OFFSET|PARTITION=OFFSET",
        help="Judge events from this offset on, in all partitions, or for each partition its own.",
    ),
]


def verify(
    context: typer.Context,
    config: Config,
    tenants: Annotated[list[str] | None, typer.Argument(metavar="[TENANT]...", help="Default: all tenants.")] = None,
    upto: Annotated[
        UpTo, typer.Option(help="end: every event there is; committed: what live workers have committed so far.")
    ] = UpTo.END,
    since: Since = None,
    from_offset: FromOffset = None,
    settle: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for transactions that are open.")] = 20.0,
    audit: Annotated[bool, typer.Option(help="Compare audit records with the scores as well.")] = True,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Read a tenant's events, scores and dead letters independently and count what is wrong.

    Every event must have exactly one score or one dead letter, in order, its own. Audit records are compared with the
    scores: of the same generation, their live scores must be the same. Reads committed records from the first offset,
    or from where --since and --from-offset say, and shares nothing with the workers.

    What was removed before it was answered can no longer be scored: `not answerable: removed by retention`. What cannot
    be judged is counted in a line of its own and is no finding: answers to a topic that was deleted and created again,
    or that the tenant has left, and events whose answer may be gone.

    Exit codes: 0 nothing is wrong, 1 anything was found, 2 wrong usage, 3 Kafka cannot be reached.

    With --json, for each event topic: topic, topic_id, tenants, events, scores, dead_letters, ok, findings (kind,
    count, examples), notes, judged_from (partition: offset), older_answers, moved_answers, unjudged, audit.

    Examples:

    ```
    muse-stream verify muse.yaml acme
    muse-stream verify /var/lib/muse/store --upto committed     # while workers run
    muse-stream verify muse.yaml acme --since 7d
    muse-stream verify muse.yaml acme --from-offset 0=5000 --from-offset 1=4800
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.verify import Scope  # noqa: PLC0415
    from muse_stream.commands.verify import verify as run_verify  # noqa: PLC0415
    from muse_stream.verify import Span  # noqa: PLC0415

    session: Session = context.obj
    span = Span(
        None if since is None else moment_ms(since, "--since"),
        offsets(from_offset, "--from-offset"),
    )
    with progress("reading") as update:
        reports = run_verify(
            open_configuration(config),
            session.kafka,
            tenants,
            Scope(upto.value, settle, audit, span),
            lambda topic, done, total: update(done, total, topic),
        )
    if as_json:
        show_json([{**asdict(report), "ok": report.ok} for report in reports])
    else:
        _show(reports)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def _show(reports: "Sequence[Report]") -> None:
    rows: list[dict[str, Any]] = [
        {
            "events topic": report.topic,
            "tenants": report.tenants,
            "events": report.events,
            "scores": report.scores,
            "dead letters": report.dead_letters,
            "audit records": "-" if report.audit is None else f"{report.audit.records:,}",
            "found": ", ".join(f"{one.count:,} {_said(one.kind)}" for one in report.findings) or "nothing wrong",
        }
        for report in reports
    ]
    show_table("exactly once?", rows, right=("events", "scores", "dead letters", "audit records"))
    for report in reports:
        for one in report.findings:
            say(f"{_said(one.kind)}: {', '.join(one.examples[:SHOWN])}" + (" ..." if one.count > SHOWN else ""))
        for text in (*_audit_notes(report), *report.notes):
            note(text, "yellow")


def _said(kind: str) -> str:
    return {"not_answerable": "not answerable: removed by retention"}.get(kind, kind)


def _audit_notes(report: "Report") -> list[str]:
    """Say what an analyst must know before live scores of audit records are used."""
    audit = report.audit
    if audit is None or not audit.other_generation:
        return []
    return [
        f"{report.topic}: {audit.other_generation:,} of {audit.records:,} audit records computed the live score under "
        f"another generation than the published one; {audit.different:,} of them differ from it. "
        "The published score is what the tenant got: docs/audit-records.md"
    ]
