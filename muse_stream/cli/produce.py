"""`produce`: send the events of a file."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict

from muse_stream.cli.options import (
    Columns,
    Config,
    Events,
    Headers,
    Json,
    JsonEncoding,
    JsonText,
    Session,
    Tenant,
    pairs,
)
from muse_stream.cli.output import note, progress, say, show_json
from muse_stream.cli.store_option import StoreOption

FromRow = Annotated[
    int, typer.Option(min=1, help="Begin with this row of the file, from 1; of JSON lines with this line.")
]
Register = Annotated[
    bool, typer.Option("--register", help="Register the schema where the Schema Registry does not have it.")
]
SkipInvalid = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write rows that are no events to FILE (JSON lines) and send the others."),
]


class Frame(StrEnum):
    """What is written before an Avro record."""

    SINGLE = "single-object"
    CONFLUENT = "confluent"


def produce(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    file: Events,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second; default: as fast as it goes.")] = None,
    key: Annotated[str | None, typer.Option(help="Field to key events by; default: the event's id.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Send at most this many events.")] = None,
    from_row: FromRow = 1,
    skip_invalid: SkipInvalid = None,
    frame: Annotated[Frame, typer.Option(help="What names the schema before each record.")] = Frame.SINGLE,
    register: Register = False,
    json_encoding: JsonEncoding = JsonText.AUTO,
    column: Columns = None,
    header: Headers = None,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Send a file as a tenant's events, at a rate or as fast as it goes.

    The whole file is checked first: where a row is no event of the schema, nothing is sent, or, with --skip-invalid,
    all other rows are. When sending ends early, the message says which rows have been sent, and --from-row sends the
    rest. How values are converted, and what is refused: docs/event-files.md.

    With --frame confluent a value begins with its schema's id: that of ids.json, or, where the events have
    `schema_ids: registry`, that of the Schema Registry which MUSE_REGISTRY_URL names.

    Examples:

    ```
    muse-stream produce muse.yaml acme events.parquet
    muse-stream produce muse.yaml acme events.jsonl --rate 1000 --key customer_id
    muse-stream produce muse.yaml acme tx.parquet --column transaction_id=TX_ID --column amount=TX_AMOUNT
    muse-stream produce muse.yaml acme events.jsonl --skip-invalid refused.jsonl
    muse-stream produce muse.yaml acme events.jsonl --frame confluent --register
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.produce import Progress, Sending, event_file  # noqa: PLC0415
    from muse_stream.commands.produce import produce as send  # noqa: PLC0415

    session: Session = context.obj
    names = pairs(column, "--column"), pairs(header, "--header")
    sending = Sending(rate, key, limit, frame.value, register, *names, from_row, json_encoding.encoding, skip_invalid)
    configuration = open_configuration(config)
    counted = replace(sending, frame="single-object", register=False)
    total = _total(event_file(configuration, tenant, file, counted).rows, from_row, limit)
    with progress("checked", total) as update:
        told = Progress(
            lambda checked: update(checked, None, ""),
            lambda sent: update(sent, None, f"events of {tenant}"),
            _interrupted,
        )
        produced = send(configuration, session.kafka, tenant, file, sending, told)
    sent = produced.sent
    if as_json:
        show_json({**asdict(sent), "skipped": produced.skipped})
    else:
        say(f"{sent.acknowledged:,} events sent in {sent.seconds:.1f} s, {sent.speed:,.0f} a second")
    if produced.skipped:
        rows = "row is no event and was" if produced.skipped == 1 else "rows are no events and were"
        note(f"{produced.skipped:,} {rows} left out: {skip_invalid} says why", "yellow")
    if rate is not None and sent.late_s > 1.0:
        note(f"the rate was not kept: at worst {sent.late_s:.1f} s late", "yellow")


def _interrupted(report: str) -> None:
    note(f"interrupted: {report}", "yellow")


def _total(rows: int | None, first: int, limit: int | None) -> int | None:
    """Return how many events there are to send, where that is known."""
    if rows is None:
        return None
    left = max(0, rows - first + 1)
    return left if limit is None else min(limit, left)
