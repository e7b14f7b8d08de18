"""The guided demo: what MUSE is for, on a real Kafka, with a verdict.

In: nothing (a synthetic card stream), or somebody's own transactions. Out: `run()`, which tells the story and returns
an exit code. Law: everything shown is read from the topics, and everything that scores is the product itself.

    runner    the whole run              stages     four generations under one stream       broker, keeper, *_kafka
    scenario  what a run is about        feed       the tenants' producers                  generator, population, ...
    synthetic, own (mapping)             workers    `muse-stream run`, in processes         training, exporters, assets
    configuration  the generations       follow, ledger   what became of every event
    periods, promise, comparison         did an alert rate move?
    findings, table, screen              what is said about it
"""

from pathlib import Path


def run(*, events: Path | None = None, mapping: Path | None = None, as_json: bool = False) -> int:
    """Run the guided demo; see `muse_stream.demo.runner.run`."""
    from muse_stream.demo import runner  # noqa: PLC0415 - the broker ladder alone must not load every vendor

    return runner.run(events=events, mapping=mapping, as_json=as_json)


__all__ = ["run"]
