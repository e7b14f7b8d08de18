"""`python -m tests.store_faults [FAULT ...] [--rounds N] [--per-s N]`: a Redis broken in every way, under load.

One line for each fault: the longest time without a score in each round. Exit code 1 when anything is lost, doubled, out
of order, taken back to an older generation, or silent for longer than a second.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream.testing.kafka_broker import broker
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.redis_faults import FAULTS
from tests.store_faults.watch import Watch

MOST_S = 1.0


def main() -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.store_faults", description=__doc__)
    parser.add_argument("fault", nargs="*", default=list(FAULTS), help=", ".join(FAULTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--per-s", type=int, default=1_000, help="events a second")
    asked = parser.parse_args()
    for name in asked.fault:
        if name not in FAULTS:
            parser.error(f"no fault '{name}'; there are {', '.join(FAULTS)}")
    gaps: dict[str, list[float]] = {name: [] for name in asked.fault}
    with broker() as kafka, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"MUSE_CACHE_DIR": f"{folder}/operator"}
        bank = Bank(Path(folder) / "bank", "faults")
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in bank.topics()]).values():
            made.result()
        with Watch(bank, kafka.bootstrap, Path(folder), per_s=asked.per_s) as watch:
            for _ in range(asked.rounds):
                for name in asked.fault:
                    watch.strike(name)
                    gaps[name].append(watch.gaps[name])
                    print(f"{name:10} longest without a score: {watch.gaps[name]:.2f} s", flush=True)
                watch.restarted_while_away()
            watch.finish()
        broken = watch.broken()
    worst = max(max(some) for some in gaps.values())
    print(f"{watch.events:,} events; {'; '.join(broken) or 'nothing lost, doubled, out of order or taken back'}")
    print(f"longest time without a score while a fault lasted: {worst:.2f} s")
    return int(bool(broken) or worst > MOST_S)


if __name__ == "__main__":
    sys.exit(main())
