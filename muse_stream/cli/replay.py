"""`replay`: what would the answers have been?"""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from muse_stream.cli.options import Columns, Config, Events, Headers, Json, JsonEncoding, JsonText, Role, Tenant, pairs
from muse_stream.cli.output import note, progress, say, show_json, show_table
from muse_stream.cli.store_option import StoreOption


def replay(
    config: Config,
    tenant: Tenant,
    file: Events,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the answers go: .parquet or .avro.")],
    role: Annotated[Role, typer.Option(help="live writes scores, shadow audit records.")] = Role.LIVE,
    limit: Annotated[int | None, typer.Option(min=1, help="Score only so many.")] = None,
    json_encoding: JsonEncoding = JsonText.AUTO,
    column: Columns = None,
    header: Headers = None,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Score a file without Kafka, with the code that scores the stream.

    Examples:

    ```
    muse-stream replay muse.yaml acme events.parquet --output scores.parquet
    muse-stream replay muse.yaml acme events.avro --output audit.avro --role shadow
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.produce import Sending, event_file  # noqa: PLC0415
    from muse_stream.commands.replay import replay as run_replay  # noqa: PLC0415

    configuration = open_configuration(config)
    sending = Sending(
        limit=limit,
        columns=pairs(column, "--column"),
        headers=pairs(header, "--header"),
        encoding=json_encoding.encoding,
    )
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
