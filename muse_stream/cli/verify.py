"""`verify` and `replay`: was it right, and what would it have been?

In: a configuration, tenants, a file. Out: findings; scores.
Law: see `muse_stream.cli`.
"""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from muse_stream.cli.screen import note, progress, say, show_json, show_table
from muse_stream.cli.serving import Role
from muse_stream.cli.session import Config, Json, Session, Tenant, pairs

SHOWN = 3
"""Examples of each finding in the table; JSON has more."""


class UpTo(StrEnum):
    """How far `verify` looks."""

    END = "end"
    COMMITTED = "committed"


def register(program: typer.Typer) -> None:
    """Add the commands of this group."""
    program.command()(verify)
    program.command()(replay)


def verify(
    context: typer.Context,
    config: Config,
    tenants: Annotated[list[str] | None, typer.Argument(metavar="[TENANT]...", help="Default: all tenants.")] = None,
    upto: Annotated[
        UpTo, typer.Option(help="end: every event there is; committed: what live workers have committed so far.")
    ] = UpTo.END,
    settle: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for transactions that are open.")] = 20.0,
    as_json: Json = False,
) -> None:
    """Read a tenant's events, scores and dead letters independently and count what is wrong.

    Every event must have exactly one score or one dead letter, in order, its own. Reads committed records from the
    first offset and shares nothing with the workers. Exit code 1 when anything is found.

    Examples:

    ```
    muse-stream verify muse.yaml acme
    muse-stream verify /var/lib/muse/store --upto committed     # while workers run
    ```
    """
    from muse_stream.operations.proving import Scope  # noqa: PLC0415
    from muse_stream.operations.proving import verify as run_verify  # noqa: PLC0415
    from muse_stream.operations.sources import open_configuration  # noqa: PLC0415

    session: Session = context.obj
    with progress("reading") as update:
        reports = run_verify(
            open_configuration(config),
            session.kafka,
            tenants,
            Scope(upto.value, settle),
            lambda topic, done, total: update(done, total, topic),
        )
    if as_json:
        show_json([{**asdict(report), "ok": report.ok} for report in reports])
    else:
        rows: list[dict[str, Any]] = [
            {
                "events topic": report.topic,
                "tenants": report.tenants,
                "events": report.events,
                "scores": report.scores,
                "dead letters": report.dead_letters,
                "found": ", ".join(f"{one.count:,} {one.kind}" for one in report.findings) or "nothing wrong",
            }
            for report in reports
        ]
        show_table("exactly once?", rows, right=("events", "scores", "dead letters"))
        for report in reports:
            for one in report.findings:
                say(f"{one.kind}: {', '.join(one.examples[:SHOWN])}" + (" ..." if one.count > SHOWN else ""))
            for text in report.notes:
                note(text, "yellow")
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


def replay(
    config: Config,
    tenant: Tenant,
    file: Annotated[Path, typer.Argument(metavar="EVENTS", help="Parquet, Avro or JSON-lines file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the answers go: .parquet or .avro.")],
    role: Annotated[Role, typer.Option(help="live writes scores, shadow audit records.")] = Role.LIVE,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only so many.")] = None,
    column: Annotated[list[str] | None, typer.Option(help="field=column, where the file's names differ.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="name=value, a Kafka header for every event.")] = None,
    as_json: Json = False,
) -> None:
    """Score a file without Kafka, by the very code that scores the stream.

    Examples:

    ```
    muse-stream replay muse.yaml acme events.parquet --output scores.parquet
    muse-stream replay muse.yaml acme events.avro --output audit.avro --role shadow
    ```
    """
    from muse_stream.operations.produce import Sending, event_file  # noqa: PLC0415
    from muse_stream.operations.replay import replay as run_replay  # noqa: PLC0415
    from muse_stream.operations.sources import open_configuration  # noqa: PLC0415

    configuration = open_configuration(config)
    sending = Sending(limit=limit, columns=pairs(column, "--column"), headers=pairs(header, "--header"))
    rows = event_file(configuration, tenant, file, sending).rows
    with progress(f"events of {tenant}", rows if limit is None or rows is None else min(limit, rows)) as update:
        done = run_replay(
            configuration,
            tenant,
            file,
            output,
            role=role.value,
            sending=sending,
            progress=lambda count: update(count, None, ""),
        )
    if as_json:
        show_json(asdict(done))
        return
    speed = done.events / done.seconds if done.seconds else 0.0
    say(f"{done.events:,} events, {done.answers:,} answers in {output}, {speed:,.0f} events a second")
    if done.dead:
        reasons = [{"reason": reason, "events": count} for reason, count in sorted(done.dead.items())]
        show_table(f"{sum(done.dead.values()):,} would be dead letters", reasons, right=("events",))
        for row, reason, message in done.letters[:10]:
            note(f"row {row}: {reason}: {message}")
