"""`tail`: follow a topic, decoded."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from muse_stream.cli.options import Config, Json, Redact, Session, Tenant
from muse_stream.cli.output import note, say, show_line
from muse_stream.cli.store_option import StoreOption


class Kind(StrEnum):
    """Which of a tenant's topics."""

    SCORES = "scores"
    AUDIT = "audit"
    DLQ = "dlq"
    UNKNOWN = "unknown"
    EVENTS = "events"


def tail(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    kind: Annotated[
        Kind, typer.Option(help="Which of the tenant's topics; unknown: its lane's events without a tenant.")
    ] = Kind.SCORES,
    from_beginning: Annotated[bool, typer.Option("--from-beginning", help="Start at the first record.")] = False,
    last: Annotated[int | None, typer.Option(min=1, help="Start this many records back in each partition.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many records.")] = None,
    no_follow: Annotated[bool, typer.Option("--no-follow", help="Stop at the end of the topic.")] = False,
    redact: Redact = False,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Follow a tenant's scores, audit records, dead letters or events, decoded, until Ctrl-C.

    Examples:

    ```
    muse-stream tail muse.yaml acme
    muse-stream tail muse.yaml acme --kind dlq --from-beginning --no-follow
    muse-stream tail muse.yaml acme --kind dlq --redact --limit 5   # to be shown to others
    muse-stream tail muse.yaml acme --kind audit --json | jq 'select(.score > 0.8)'
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.redaction import Redaction  # noqa: PLC0415
    from muse_stream.commands.tail import tail as follow  # noqa: PLC0415

    session: Session = context.obj
    start: Any = last if last is not None else ("beginning" if from_beginning else "end")
    shown, redaction = 0, Redaction() if redact else None
    found = follow(open_configuration(config), session.kafka, tenant, kind.value, start, until_end=no_follow, told=note)
    for records in found:
        for record in records if limit is None else records[: limit - shown]:
            if redaction is not None:
                record = redaction(record, ours=kind is not Kind.EVENTS)  # noqa: PLW2901
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
    elif "receipt" in record:
        say(f"{where:>12}  receipt            {record['events']:,} events were sent to {record['to']} again")
    elif kind in (Kind.DLQ, Kind.UNKNOWN):
        say(f"{where:>12}  {record.get('reason', '?'):<18} {record['source']}  {record.get('message', '')}")
    elif kind is Kind.EVENTS or "event_id" not in record:  # a record that somebody else has written
        say(f"{where:>12}  " + " ".join(f"{name}={value}" for name, value in record.items() if name != "_kafka"))
    else:
        score, live = record.get("score"), record.get("live_score")
        shown = f"{score:.6f}" if score is not None else f"error: {record.get('error')}"
        against = f" live {live:.6f}" if live is not None else ""
        say(
            f"{where:>12}  {record['event_id']}  {shown}{against}  "
            f"{record['predictor']} v{record['predictor_version']}  generation {record['generation']}"
        )
