"""The guided demo: what MUSE is for, shown and measured on a real Kafka.

`run()` takes nothing (a synthetic card stream) or somebody's own transactions, tells the story and returns an exit
code. Everything shown is read from the topics, and everything that scores is the product itself.

    runner                                the whole run
    stages                                four generations under one stream
    configuration                         the generations
    scenario                              what a run is about: synthetic_scenario, transactions_scenario
    generator, population, purchases      the synthetic stream
    transactions, mapping, windows        somebody's own transactions
    feed, workers                         the tenants' producers; `muse-stream run`, in processes
    follow, ledger                        what became of every event
    past, periods, comparison             samples for maps; did an alert rate move?
    guarded                               what `promote` and its guard said
    refreshing                            the chapter on drift: a new map, proposed and applied
    findings, table, screen               what is said about it
    training, exporters                   how the models in assets/ were made
"""

from pathlib import Path


def run(*, events: Path | None = None, mapping: Path | None = None, redis: bool = False, as_json: bool = False) -> int:
    """Run the guided demo; see `muse_stream.demo.runner.run`."""
    from muse_stream.demo import runner  # noqa: PLC0415 - the broker ladder alone must not load every vendor

    return runner.run(events=events, mapping=mapping, redis=redis, as_json=as_json)


__all__ = ["run"]
