"""`demo`: what this is for, on a real Kafka, in a minute.

Takes nothing, or somebody's own transactions. A guided tour in the terminal; exit code 1 if a promise was broken.
"""

from pathlib import Path
from typing import Annotated

import typer

from muse_stream.cli.options import Json


def demo(
    events: Annotated[
        Path | None, typer.Option(help="Parquet file of transactions to use instead of the synthetic stream.")
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option(help="Which columns of that file are what; default: the Handbook's names.")
    ] = None,
    redis: Annotated[
        bool, typer.Option("--redis", help="Keep the generations in a Redis, which is started, in place of a folder.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show on a real Kafka what MUSE is for: a retrained model is promoted and no tenant's alert rate moves.

    Starts a broker if MUSE_KAFKA_BOOTSTRAP_SERVERS names none, streams card transactions of several tenants, lets a
    retrained model shadow the one in service, promotes it in mid-stream, compares alert rates, and verifies that
    every event was answered exactly once. Ends by itself.

    Examples:

    ```
    muse-stream demo
    muse-stream demo --redis
    muse-stream demo --events transactions.parquet --mapping mapping.yaml
    ```
    """
    from muse_stream.demo import run  # noqa: PLC0415

    raise typer.Exit(run(events=events, mapping=mapping, redis=redis, as_json=as_json))
