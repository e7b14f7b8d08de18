"""`topics`, `produce` and `tail`: what stands on Kafka.

In: a configuration, a tenant. Out: topics made, events sent, records shown.
Law: see `muse_stream.cli`.
"""

import math
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from muse_stream.cli.screen import note, progress, say, show_json, show_line, show_table
from muse_stream.cli.session import Config, Json, Session, Tenant, pairs


class Kind(StrEnum):
    """Which of a tenant's topics."""

    SCORES = "scores"
    AUDIT = "audit"
    DLQ = "dlq"
    UNKNOWN = "unknown"
    EVENTS = "events"


class Frame(StrEnum):
    """What stands before an Avro record."""

    SINGLE = "single-object"
    CONFLUENT = "confluent"


def register(program: typer.Typer) -> None:
    """Add the commands of this group."""
    program.command()(topics)
    program.command()(produce)
    program.command()(tail)


def topics(
    context: typer.Context,
    config: Config,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of event topics to be made.")] = 6,
    output_partitions: Annotated[
        int | None, typer.Option(min=1, help="Partitions of output topics to be made; default: their event topic's.")
    ] = None,
    replication: Annotated[int | None, typer.Option(min=1, help="Replicas; default: the cluster's.")] = None,
    min_isr: Annotated[int | None, typer.Option(min=1, help="min.insync.replicas; default: the cluster's.")] = None,
    retention_hours: Annotated[
        float | None, typer.Option(help="How long records are kept, -1 for ever; default: the cluster's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, do nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make the topics a configuration needs, and check those that are there.

    Never deletes a topic and never adds partitions to one. With --dry-run the exit code is 1 when the cluster is not as
    the configuration needs it.

    Examples:

    ```
    muse-stream topics muse.yaml --partitions 12 --replication 3 --min-isr 2
    muse-stream topics muse.yaml --dry-run
    ```
    """
    from muse_stream.kafka.topic_plan import Options  # noqa: PLC0415
    from muse_stream.operations.sources import open_configuration  # noqa: PLC0415
    from muse_stream.operations.topics import prepare_topics  # noqa: PLC0415

    session: Session = context.obj
    hours = retention_hours
    if hours is not None and not math.isfinite(hours):
        raise typer.BadParameter("give hours, or -1 for ever", param_hint="--retention-hours")
    retention = None if hours is None else (-1 if hours < 0 else int(hours * 3_600_000))
    options = Options(partitions, output_partitions, replication, min_isr, retention)
    prepared = prepare_topics(open_configuration(config), session.kafka, options, dry_run=dry_run)
    rows: list[dict[str, Any]] = [
        {**asdict(change), "done": change in prepared.done, "config": dict(change.config)} for change in prepared.plan
    ]
    if as_json:
        show_json({"needed": [asdict(need) for need in prepared.needed], "changes": rows})
    else:
        for row in rows:
            row["config"] = [f"{name}={value}" for name, value in row["config"].items()]
        verdict = "nothing to do" if not rows else ("what would be done" if dry_run else "what was done")
        show_table(f"{len(prepared.needed)} topics: {verdict}", rows, right=("partitions",))
    if dry_run and prepared.pending:
        raise typer.Exit(1)


def produce(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    file: Annotated[Path, typer.Argument(metavar="EVENTS", help="Parquet, Avro or JSON-lines file.")],
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second; default: as fast as it goes.")] = None,
    key: Annotated[str | None, typer.Option(help="Field to key events by; default: the event's id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send only so many.")] = None,
    frame: Annotated[Frame, typer.Option(help="What names the schema before each record.")] = Frame.SINGLE,
    column: Annotated[list[str] | None, typer.Option(help="field=column, where the file's names differ.")] = None,
    header: Annotated[list[str] | None, typer.Option(help="name=value, a Kafka header for every event.")] = None,
    as_json: Json = False,
) -> None:
    """Send a file as a tenant's events, at a rate or as fast as it goes.

    Examples:

    ```
    muse-stream produce muse.yaml acme events.parquet
    muse-stream produce muse.yaml acme events.jsonl --rate 1000 --key customer_id
    muse-stream produce muse.yaml acme tx.parquet --column transaction_id=TX_ID --column amount=TX_AMOUNT
    ```
    """
    from muse_stream.operations.produce import Sending, event_file  # noqa: PLC0415
    from muse_stream.operations.produce import produce as send  # noqa: PLC0415
    from muse_stream.operations.sources import open_configuration  # noqa: PLC0415

    session: Session = context.obj
    columns, headers = pairs(column, "--column"), pairs(header, "--header")
    sending = Sending(rate, key, limit, frame.value, columns, headers)
    configuration = open_configuration(config)
    rows = event_file(configuration, tenant, file, sending).rows
    total = rows if limit is None or rows is None else min(limit, rows)
    with progress(f"events of {tenant}", total) as update:
        sent = send(configuration, session.kafka, tenant, file, sending, lambda done: update(done, None, ""))
    if as_json:
        show_json(asdict(sent))
    else:
        speed = sent.events / sent.seconds if sent.seconds else 0.0
        say(f"{sent.acknowledged:,} events sent in {sent.seconds:.1f} s, {speed:,.0f} a second")
        if rate is not None and sent.late_s > 1.0:
            note(f"the rate was not kept: at worst {sent.late_s:.1f} s late", "yellow")


def tail(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    kind: Annotated[
        Kind, typer.Option(help="Which of the tenant's topics; unknown: its lane's events without a tenant.")
    ] = Kind.SCORES,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the first record.")] = False,
    last: Annotated[int | None, typer.Option(min=1, help="Start so many records back in each partition.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many records.")] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Stop at the end of the topic.")] = False,
    as_json: Json = False,
) -> None:
    """Follow a tenant's scores, audit records, dead letters or events, decoded, until Ctrl-C.

    Examples:

    ```
    muse-stream tail muse.yaml acme
    muse-stream tail muse.yaml acme --kind dlq --from-beginning --no-follow
    muse-stream tail muse.yaml acme --kind audit --json | jq 'select(.score > 0.8)'
    ```
    """
    from muse_stream.operations.sources import open_configuration  # noqa: PLC0415
    from muse_stream.operations.watching import tail as follow  # noqa: PLC0415

    session: Session = context.obj
    start: Any = last if last is not None else ("beginning" if from_beginning else "end")
    shown = 0
    for records in follow(open_configuration(config), session.kafka, tenant, kind.value, start, until_end=no_follow):
        for record in records if limit is None else records[: limit - shown]:
            show_line(record) if as_json else _row(kind, record)
            shown += 1
        if limit is not None and shown >= limit:
            return


def _row(kind: Kind, record: dict[str, Any]) -> None:
    """Print one record on one line, the parts people look for first."""
    place = record["_kafka"]
    where = f"{place['partition']}@{place['offset']}"
    if "undecodable" in record:
        say(f"{where:>12}  undecodable: {record['undecodable']}")
    elif kind in (Kind.DLQ, Kind.UNKNOWN):
        say(f"{where:>12}  {record.get('reason', '?'):<18} {record['source']}  {record.get('message', '')}")
    elif kind is Kind.EVENTS:
        say(f"{where:>12}  " + " ".join(f"{name}={value}" for name, value in record.items() if name != "_kafka"))
    else:
        score, live = record.get("score"), record.get("live_score")
        shown = f"{score:.6f}" if score is not None else f"error: {record.get('error')}"
        against = f" live {live:.6f}" if live is not None else ""
        say(
            f"{where:>12}  {record['event_id']}  {shown}{against}  "
            f"{record['predictor']} v{record['predictor_version']}  generation {record['generation']}"
        )
