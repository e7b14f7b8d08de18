"""`audit`: a tenant's score and audit records as a Parquet file, for analysis."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from muse_stream.cli.moments import FromOffset, Settle, Since, Until, moment_ms, offsets
from muse_stream.cli.options import Config, Json, Session, Tenant
from muse_stream.cli.output import note, progress, say, show_json
from muse_stream.cli.store_option import StoreOption


class Records(StrEnum):
    """Which records."""

    ALL = "all"
    SCORES = "scores"
    AUDIT = "audit"


def audit(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where they go: a .parquet file.")],
    kind: Annotated[Records, typer.Option(help="scores, audit records of shadows, or both.")] = Records.ALL,
    since: Since = None,
    until: Until = None,
    from_offset: FromOffset = None,
    settle: Settle = 20.0,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Export a tenant's scores and audit records to a Parquet file, for DuckDB, pandas or polars.

    One row a record; column `record` says `score` or `audit`. Times are in UTC; each intent attribute is a column
    `intent_NAME`, each expert two: `raw_NAME` and `corrected_NAME`. Reads committed records, up to where the topics end
    now. The file appears when it is complete; what had its name before is there until then.

    What would have changed had we promoted B? docs/audit-records.md has that query, and the columns.

    Exit codes: 0 written, 1 nothing was found or the file cannot be written, 2 wrong usage, 3 Kafka cannot be reached.

    Examples:

    ```
    muse-stream audit muse.yaml acme --to acme.parquet
    muse-stream audit /var/lib/muse/store acme --to week.parquet --since 7d
    muse-stream audit muse.yaml acme --to shadows.parquet --kind audit --since 2026-11-01 --until 2026-11-08 --json
    ```
    """
    from muse_stream.commands.audit import KINDS, Selection  # noqa: PLC0415
    from muse_stream.commands.audit import audit as export  # noqa: PLC0415
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415

    session: Session = context.obj
    selection = Selection(
        tuple(one for one in KINDS if kind in (Records.ALL, one)),
        None if since is None else moment_ms(since, "--since"),
        None if until is None else moment_ms(until, "--until"),
        offsets(from_offset, "--from-offset"),
        settle,
    )
    with progress(f"records of {tenant}") as update:
        done = export(
            open_configuration(config),
            session.kafka,
            tenant,
            to,
            selection,
            lambda read, total: update(read, total, ""),
        )
    if as_json:
        show_json(asdict(done))
    else:
        say(f"{done.scores:,} scores and {done.audit:,} audit records of {tenant} in {to}")
    if done.undecodable:
        note(f"{done.undecodable:,} records are left out, they are none of ours: {'; '.join(done.examples)}", "yellow")
    for text in done.notes:
        note(text, "yellow")
