"""`produce`: send the events of a file."""

from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from muse_stream.cli.options import Columns, Config, Events, Headers, Json, Session, Tenant, pairs
from muse_stream.cli.output import note, progress, say, show_json


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
    frame: Annotated[Frame, typer.Option(help="What names the schema before each record.")] = Frame.SINGLE,
    column: Columns = None,
    header: Headers = None,
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
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.produce import Sending, event_file  # noqa: PLC0415
    from muse_stream.commands.produce import produce as send  # noqa: PLC0415

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
