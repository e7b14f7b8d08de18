"""`report`: live and shadow predictors beside each other, as one HTML file."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from muse_stream.cli.moments import FromOffset, Settle, Since, Until, moment_ms, offsets
from muse_stream.cli.options import Config, Json, Session
from muse_stream.cli.output import note, progress, say, show_json
from muse_stream.cli.store_option import StoreOption

if TYPE_CHECKING:
    from muse_stream.commands.audit import Selection

To = Annotated[Path, typer.Option("--to", metavar="FILE", help="Where the report goes: an .html file.")]
Tenants = Annotated[list[str] | None, typer.Option("--tenant", help="Of this tenant; may be repeated. Default: all.")]
From = Annotated[
    list[Path] | None,
    typer.Option("--from", metavar="FILE", help="A table that `audit` has written; may be repeated. Default: topics."),
]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE", help="A table of what became of events: adds calibration curves."),
]
IdColumn = Annotated[str, typer.Option("--id", metavar="COLUMN", help="Event ids in --labels.")]
LabelColumn = Annotated[str, typer.Option("--label", metavar="COLUMN", help="0 and 1 in --labels.")]
Tolerance = Annotated[
    float, typer.Option(min=0.0, help="How far an alert rate may be from its promise, as a share of it.")
]


def report(
    context: typer.Context,
    config: Config,
    to: To,
    tenant: Tenants = None,
    source: From = None,
    since: Since = None,
    until: Until = None,
    from_offset: FromOffset = None,
    labels: Labels = None,
    id_column: IdColumn = "event_id",
    label_column: LabelColumn = "label",
    tolerance: Tolerance = 0.2,
    settle: Settle = 20.0,
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Write a report that anybody can open: one HTML file, without scripts, that loads nothing from anywhere.

    For each tenant: scores of the live and of each shadow predictor for the same events (distributions, quantiles,
    alert rates with 95 % intervals, events of one Kafka key as a group, rank correlation, the events that would change
    sides), alert rates day by day, calibration curves where labels are given; and the history of the store. Needs
    `pip install 'muse-stream[report]'`. docs/report.md says how to read it.

    Exit codes: 0 written, 1 the file cannot be written, 2 wrong usage or no report can be made, 3 Kafka cannot be
    reached.

    Examples:

    ```
    muse-stream report /var/lib/muse/store --to report.html --since 7d
    muse-stream report muse.yaml --to acme.html --tenant acme
    muse-stream report muse.yaml --to acme.html --from acme.parquet --labels chargebacks.csv --label is_fraud
    ```
    """
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.report import Asked  # noqa: PLC0415
    from muse_stream.commands.report import report as write  # noqa: PLC0415

    if source and (since or until or from_offset):
        raise typer.BadParameter("a window belongs to topics; give it to `audit`", param_hint="--from")
    session: Session = context.obj
    selection = _selection(since, until, from_offset, settle)
    asked = Asked(tenant or (), source or (), selection, labels, id_column, label_column, tolerance)
    with progress("report") as update:
        done = write(
            open_configuration(config),
            None if source else session.kafka,
            to,
            asked,
            lambda text: update(0, None, text),
        )
    if as_json:
        show_json(asdict(done))
    else:
        size = f"{done.bytes / 1000:,.0f} kB"
        say(f"{to}: {len(done.tenants)} tenants, {done.events:,} events that two predictors have scored, {size}")
    for text in done.notes:
        note(text, "yellow")


def _selection(since: str | None, until: str | None, from_offset: list[str] | None, settle_s: float) -> "Selection":
    from muse_stream.commands.audit import Selection  # noqa: PLC0415

    return Selection(
        since_ms=None if since is None else moment_ms(since, "--since"),
        until_ms=None if until is None else moment_ms(until, "--until"),
        from_offset=offsets(from_offset, "--from-offset"),
        settle_s=settle_s,
    )
