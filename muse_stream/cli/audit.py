"""`audit`: a tenant's score and audit records as a Parquet file, for analysis."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream.cli.moments import FromOffset, Settle, Since, Until, moment_ms, offsets
from muse_stream.cli.options import Config, Json, Session, Tenant
from muse_stream.cli.output import note, progress, say, show_json, show_line
from muse_stream.cli.store_option import StoreOption

if TYPE_CHECKING:
    from muse_stream.config import KafkaSettings


class Records(StrEnum):
    """Which records."""

    ALL = "all"
    SCORES = "scores"
    AUDIT = "audit"


To = Annotated[
    Path, typer.Option("--to", metavar="FILE|DIR", help="Where they go: a .parquet file; with --follow a folder.")
]
Kinds = Annotated[Records, typer.Option(help="scores, audit records of shadows, or both.")]
Follow = Annotated[
    bool, typer.Option("--follow", help="Keep all records as files of a folder, as they come. TENANT '*' is all.")
]
Every = Annotated[
    float, typer.Option(min=1.0, help="With --follow: seconds between two looks, each of which makes files.")
]
Once = Annotated[bool, typer.Option("--once", help="With --follow: end after one look, as a timer wants it.")]


def audit(
    context: typer.Context,
    config: Config,
    tenant: Tenant,
    to: To,
    kind: Kinds = Records.ALL,
    since: Since = None,
    until: Until = None,
    from_offset: FromOffset = None,
    settle: Settle = 20.0,
    follow: Follow = False,
    every: Every = 300.0,
    once: Once = False,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Export a tenant's scores and audit records to a Parquet file, for DuckDB, pandas or polars.

    One row a record; column `record` says `score` or `audit`. Times are in UTC; each intent attribute is a column
    `intent_NAME`, each expert two: `raw_NAME` and `corrected_NAME`. Reads committed records, up to where the topics end
    now. The file appears when it is complete; what had its name before is there until then.

    What would have changed had we promoted B? docs/audit-records.md has that query, and the columns.

    With --follow DIR becomes an archive: record=score/tenant=acme/day=2026-11-26/TOPIC-PARTITION-FIRST-END.parquet.
    Every committed record stands in one file, once, also when the process is killed: docs/audit-records.md.

    Exit codes: 0 written, 1 nothing was found or the file cannot be written, 2 wrong usage, 3 Kafka cannot be reached.

    Examples:

    ```
    muse-stream audit muse.yaml acme --to acme.parquet
    muse-stream audit /var/lib/muse/store acme --to week.parquet --since 7d
    muse-stream audit store '*' --follow --to /archive
    muse-stream audit muse.yaml acme --to shadows.parquet --kind audit --since 2026-11-01 --until 2026-11-08 --json
    ```
    """
    session: Session = context.obj
    if not follow:
        if once:
            raise typer.BadParameter("has no effect without --follow", param_hint="--once")
        _export(config, session.kafka, tenant, to, kind, (since, until, from_offset), settle, as_json=as_json)
        return
    if any(one is not None for one in (since, until, from_offset)) or kind is not Records.ALL:
        message = "keeps all records from the first on: --kind, --since, --until, --from-offset choose some"
        raise typer.BadParameter(message, param_hint="--follow")
    _follow(config, session.kafka, tenant, to, every_s=every, once=once, as_json=as_json)


def _export(
    config: str,
    settings: "KafkaSettings",
    tenant: str,
    to: Path,
    kind: Records,
    window: tuple[str | None, str | None, list[str] | None],
    settle: float,
    *,
    as_json: bool,
) -> None:
    from muse_stream.commands.audit import KINDS, Selection  # noqa: PLC0415
    from muse_stream.commands.audit import audit as export  # noqa: PLC0415
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415

    since, until, from_offset = window
    selection = Selection(
        tuple(one for one in KINDS if kind in (Records.ALL, one)),
        None if since is None else moment_ms(since, "--since"),
        None if until is None else moment_ms(until, "--until"),
        offsets(from_offset, "--from-offset"),
        settle,
    )
    with progress(f"records of {tenant}") as update:
        done = export(
            open_configuration(config), settings, tenant, to, selection, lambda read, total: update(read, total, "")
        )
    if as_json:
        show_json(asdict(done))
    else:
        say(f"{done.scores:,} scores and {done.audit:,} audit records of {tenant} in {to}")
    if done.undecodable:
        note(f"{done.undecodable:,} records are left out, they are none of ours: {'; '.join(done.examples)}", "yellow")
    for text in done.notes:
        note(text, "yellow")


def _follow(
    config: str, settings: "KafkaSettings", tenant: str, folder: Path, *, every_s: float, once: bool, as_json: bool
) -> None:
    from muse_stream.commands import archive  # noqa: PLC0415
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415

    def told(done: archive.Archived) -> None:
        if as_json:
            show_line(asdict(done))
        elif done.files or once:
            say(f"{done.scores:,} scores and {done.audit:,} audit records in {done.files} new files of {folder}")
        if done.undecodable:
            note(f"{done.undecodable:,} records are left out, they are none of ours", "yellow")
        for text in done.notes:
            note(text, "yellow")

    archive.follow(lambda: open_configuration(config), settings, tenant, folder, every_s=every_s, once=once, told=told)
