"""`make faults`: every configuration of brokers under faults, and a table of what was kept. About half an hour.

make faults                                              all configurations, seeds 1 and 2
make faults ARGS="--release 4.3.1 --brokers 1"           only these; any release that Maven can fetch
make faults ARGS="--faults kill-all --seconds 300 --seeds 7"
make faults ARGS="--json --keep /tmp/faults"             lines for machines; logs are kept there
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.kafka_jars import version
from muse_stream.testing.local_cluster import archive_classes
from tests.faults.nemesis import FAULTS
from tests.faults.run import Result, Scenario, row, run

FORGETFUL = "4.3.1"
ALONE = ("kill-all", "clean-all")
SEVERAL = tuple(FAULTS)
UNREPLICATED = ("kill-leader", "kill-coordinator", "clean-leader", "clean-one")
COLUMNS = (
    "scenario",
    "seed",
    "faults",
    "events",
    "missing",
    "doubled",
    "out of order",
    "stuck",
    "markers dropped",
    "s",
)


def scenarios(releases: Sequence[str]) -> list[Scenario]:
    """All configurations of these releases."""
    shapes = ((1, 1, ALONE), (3, 3, SEVERAL), (3, 1, UNREPLICATED))
    return [Scenario(release, *shape) for release in releases for shape in shapes]


def must_be_clean(scenario: Scenario) -> bool:
    """Whether nothing may be wrong: on one broker of the pinned version, and wherever everything is replicated."""
    return scenario.release == version(PLACES) or scenario.replication > 1


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; 1 when something is wrong where nothing may be."""
    asked = _arguments(arguments)
    chosen = [
        replace(one, faults=asked.faults or one.faults, seed=seed, seconds=asked.seconds, rate=asked.rate)
        for one in scenarios(asked.release or [version(PLACES), FORGETFUL])
        if asked.brokers in (None, one.nodes) and asked.replication in (None, one.replication)
        for seed in asked.seeds
    ]
    for release in {one.release for one in chosen}:
        archive_classes(PLACES, _say, release=release)
    results = []
    with tempfile.TemporaryDirectory(prefix="faults-") as passing:
        for number, one in enumerate(chosen):
            _say(f"{number + 1} of {len(chosen)}: {one.name}, seed {one.seed}")
            folder = (asked.keep or Path(passing)) / f"{one.release}-{one.nodes}-{one.replication}-{one.seed}"
            folder.mkdir(parents=True)
            results.append(run(one, folder, _say))
            _say(f"  {counted(results[-1])}")
            for example in results[-1].examples:
                _say(f"  {example}")
            if asked.json:
                print(json.dumps(row(results[-1])), flush=True)
    if not asked.json:
        print(table(results))
    return int(any(must_be_clean(one.scenario) and not one.ok for one in results))


def counted(one: Result) -> str:
    """What was found in one run, as a line: half an hour is long to wait for the table."""
    found = {"missing": one.missing, "doubled": one.doubled, "out of order": one.disorder, "stuck": one.stuck}
    return f"{one.events:,} events: {', '.join(f'{count:,} {what}' for what, count in found.items())}"


def table(results: Iterable[Result]) -> str:
    """What was found, as the README shows it."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for one in results:
        counts = (one.events, one.missing, one.doubled, one.disorder, one.stuck, one.dropped)
        where = one.scenario.name, one.scenario.seed, len(one.faults)
        lines.append((*map(str, where), *(f"{count:,}" for count in counts), f"{one.recovery_s:g}"))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--release", action="append", help="a version of Kafka; may be given again")
    parser.add_argument("--brokers", type=int, choices=(1, 3))
    parser.add_argument("--replication", type=int, choices=(1, 3))
    parser.add_argument("--faults", type=_faults, help=f"comma-separated, of {', '.join(FAULTS)}")
    parser.add_argument("--seeds", type=lambda text: [int(one) for one in text.split(",")], default=[1, 2])
    parser.add_argument("--seconds", type=float, default=90.0, help="how long faults go on in each run")
    parser.add_argument("--rate", type=int, default=1_200, help="events a second")
    parser.add_argument("--keep", type=Path, help="folder for the logs")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(given)


def _faults(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - FAULTS.keys():
        raise argparse.ArgumentTypeError(f"no such fault: {', '.join(sorted(unknown))}")
    return names


def _say(line: object) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
