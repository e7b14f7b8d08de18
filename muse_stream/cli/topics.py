"""`topics`: make and check the topics of a configuration."""

import math
from typing import Annotated, Any

import typer
from msgspec.structs import asdict

from muse_stream.cli.options import Config, Json, Session
from muse_stream.cli.output import show_json, show_table
from muse_stream.cli.store_option import StoreOption


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
        float | None, typer.Option(help="How long records are kept, -1 forever; default: the cluster's.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, do nothing.")] = False,
    as_json: Json = False,
    _store: StoreOption = None,
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
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415
    from muse_stream.commands.topics import prepare_topics  # noqa: PLC0415
    from muse_stream.kafka import Options  # noqa: PLC0415

    session: Session = context.obj
    hours = retention_hours
    if hours is not None and not math.isfinite(hours):
        raise typer.BadParameter("give hours, or -1 forever", param_hint="--retention-hours")
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
