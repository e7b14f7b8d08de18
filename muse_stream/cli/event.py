"""`event`: what would workers answer to this event?"""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.options import Columns, Config, Headers, Json, JsonEncoding, JsonText, pairs
from muse_stream.cli.output import note, say, show_json
from muse_stream.cli.store_option import StoreOption

if TYPE_CHECKING:
    from muse_stream.commands.event import Tried

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="JSON lines, Parquet or Avro; or one Kafka value as it is (.bin).")
]


def event(
    config: Config,
    file: File,
    tenant: Annotated[
        str | None, typer.Option(help="Whose topic it is sent to; default: the tenant that the event names.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Try at most this many events.")] = 20,
    from_row: Annotated[int, typer.Option(min=1, help="Begin with this row of the file, from 1.")] = 1,
    json_encoding: JsonEncoding = JsonText.AUTO,
    column: Columns = None,
    header: Headers = None,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Try events out without Kafka: what would be published, or why it would be refused.

    Converts the events of a file as `produce` does, or decodes one value as it is on a topic (.bin), and takes them the
    workers' way: tenant, intent, route, features, score, and what shadow predictors say.

    Examples:

    ```
    muse-stream event muse.yaml event.json
    muse-stream event muse.yaml events.parquet --tenant acme --limit 3
    muse-stream event muse.yaml value.bin --header region=pt
    muse-stream event muse.yaml event.json --json | jq '.[0].record.score'
    ```

    Exit code 1 when an event would be refused.
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.event import try_events  # noqa: PLC0415
    from muse_stream.commands.produce import Sending  # noqa: PLC0415

    sending = Sending(
        limit=limit,
        columns=pairs(column, "--column"),
        headers=pairs(header, "--header"),
        first=from_row,
        encoding=json_encoding.encoding,
    )
    tried = try_events(open_configuration(config), file, sending, tenant)
    if as_json:
        show_json([asdict(one) for one in tried])
    else:
        for one in tried:
            _show(one)
        if not tried:
            note(f"{file}: holds no event", "yellow")
    if not all(one.ok for one in tried):
        raise typer.Exit(1)


def _show(one: "Tried") -> None:
    refused = {
        "dead-letter": f"would be a dead letter: {one.reason}",
        "not-an-event": "is no event of the schema: produce would not send it",
        "no-tenant": "belongs to no tenant",
    }
    say(f"{one.place}: {refused.get(one.outcome, 'would be scored')}", "green" if one.ok else "red")
    if one.message:
        _line("why", one.message + (f" (stage {one.stage})" if one.stage else ""))
    if one.tenant is not None:
        _line("tenant", f"{one.tenant}, {one.bytes:,} bytes on {one.sent_to}")
    if one.time is not None:
        _line("time", _moment(one.time))
        _line("intent", _listed(one.intent) or "none")
        _line("route", "none" if one.route is None else f"number {one.route + 1} of the configuration")
        _line("features", _listed(one.features))
    if one.record is not None:
        record = one.record
        _line(
            "score",
            f"{record['score']:.6f} (before the map {record['aggregate']:.6f}) by {record['predictor']} "
            f"v{record['predictor_version']}",
        )
    if one.published_to is not None:
        _line("publish", f"to {one.published_to}")
    for audit in one.shadow:
        said = f"error: {audit['error']}" if audit["score"] is None else f"{audit['score']:.6f}"
        _line("shadow", f"{said} by {audit['predictor']} v{audit['predictor_version']}")


def _line(name: str, text: str) -> None:
    say(f"  {name:<9} {text}")


def _listed(values: Any) -> str:
    return ", ".join(f"{name}={'null' if value is None else value}" for name, value in values.items())


def _moment(milliseconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(sep=' ', timespec='milliseconds')}"
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms after 1970, which no calendar of this program has"
