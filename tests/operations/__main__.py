"""`make operations`: the situations of docs/operations.md on one broker and on three, and a table of what was kept.

make operations                                     all situations, on one broker and on three (about 25 minutes)
make operations ARGS="--brokers 1 --only quota"     those whose title holds this word, on one broker
make operations ARGS="--json --keep /tmp/logs"      lines for machines; folders and logs are kept there
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException

from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_cluster import archive_classes
from tests.operations.scene import Account, Scene, scene
from tests.operations.situations import SITUATIONS, Situation

COLUMNS = ("situation", "brokers", "events", "missing", "doubled", "out of order", "verdict", "s")


@dataclass(frozen=True)
class Outcome:
    """How a situation ended."""

    title: str
    brokers: int
    account: Account
    seconds: float
    error: str = ""

    def row(self) -> tuple[str, ...]:
        """A row of the table."""
        one = self.account
        counts = (one.sent, len(one.missing), len(one.doubled), len(one.disorder))
        verdict = "failed" if self.error else "as the page says"
        return (self.title, str(self.brokers), *(f"{count:,}" for count in counts), verdict, f"{self.seconds:.0f}")


def play(situation: Situation, brokers: int, folder: Path) -> Outcome:
    """Run a situation on brokers of its own; its folder keeps the logs."""
    started, account, error = time.monotonic(), Account(), ""
    folder.mkdir(parents=True)
    try:
        with scene(brokers, folder, **situation.properties) as made:
            try:
                found = situation.happens(made)
            except BaseException:
                account = made.account()
                raise
            account = found or made.account()
            error = _wrong(situation, made, account)
    except (
        AssertionError,
        MuseError,
        KafkaException,
        KeyError,
        OSError,
        ValueError,
        subprocess.SubprocessError,
        TimeoutError,
    ):
        error = traceback.format_exc()
    return Outcome(situation.title, brokers, account, time.monotonic() - started, error)


def _wrong(situation: Situation, made: Scene, account: Account) -> str:
    """Return what is not as the page says, beside what the situation itself has seen to."""
    wrong = [] if account.kept else [f"not kept: {account}"]
    for tenant in made.bank.names() if situation.verified else ():
        found, expected = made.verdict(tenant), made.findings.get(tenant, {})
        wrong += [f"verify finds {found} of {tenant}, not {expected}"] * (found != expected)
    unsaid = [one for one in made.unsaid(situation.title) if not any(event in one for event in situation.perhaps)]
    return "\n".join(wrong + [f"the page shows what nobody has said: {one}" for one in unsaid])


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; 1 when something is not as the page says."""
    asked = _arguments(arguments)
    chosen = [
        (one, brokers)
        for one in SITUATIONS
        for brokers in one.brokers
        if asked.brokers in (None, brokers) and asked.only.lower() in one.title.lower()
    ]
    if not chosen:
        _say(f"no situation has '{asked.only}' in its title: {', '.join(one.title for one in SITUATIONS)}")
        return 2
    archive_classes(PLACES, _say)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="operations-") as passing:
        for number, (one, brokers) in enumerate(chosen, start=1):
            _say(f"{number} of {len(chosen)}: {one.title}, {brokers} broker{'s' * (brokers > 1)}")
            name = f"{'-'.join(one.title.lower().split())}-{brokers}"
            outcome = play(one, brokers, (asked.keep or Path(passing)) / name)
            outcomes.append(outcome)
            if outcome.error:
                _say(outcome.error)
            if asked.json:
                print(json.dumps(dict(zip(COLUMNS, outcome.row(), strict=True))), flush=True)
    if not asked.json:
        print(table(outcomes))
    return int(any(one.error for one in outcomes))


def table(outcomes: Sequence[Outcome]) -> str:
    """What was found, as docs/operations.md shows it."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(one.row() for one in outcomes)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="operations", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--brokers", type=int, choices=(1, 3))
    parser.add_argument("--only", default="", help="part of a situation's title")
    parser.add_argument("--keep", type=Path, help="folder for the logs")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(given)


def _say(line: object) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
