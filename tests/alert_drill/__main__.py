"""`python -m tests.alert_drill [SITUATION ...]`, `make alert-drill`: eight faults made for real, with real alerts.

Each has a broker, a Redis, workers and a Prometheus server of its own; Prometheus has the rules that are shipped, their
time windows divided by 10 and nothing else changed. A fault is made while events come, its alerts must fire, name a
runbook whose commands can be run, and end when the fault has; then an independent reader counts. Exit code 1 when
anything is not so. SITUATION is a part of a title, such as "disk".
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.alert_drill.account import Account
from tests.alert_drill.machine import Unable
from tests.alert_drill.prometheus import FACTOR, held_for_s, program
from tests.alert_drill.situations import SITUATIONS, Situation
from tests.alert_drill.stage import Stage

COLUMNS = ("fault", "alert: s until it fires", "events", "lost", "doubled", "out of order", "also fired", "s")
COUNTERS = ("MuseErrorBudgetBurnsFast", "MuseErrorBudgetBurns", "MuseErrorBudgetBurnsSlowly")
"""Of late answers, which any fault makes; they are told of hours and last as long."""


FAST_START = "-XX:TieredStopAtLevel=1"
"""A broker that lives for minutes: the JVM's second compiler would take as much of the machine as all it does."""


@dataclass
class Outcome:
    """How a situation ended."""

    title: str
    account: Account = field(default_factory=Account)
    fired_s: dict[str, float] = field(default_factory=dict)
    """Alert -> seconds from the fault until it fired, with short windows."""
    also: set[str] = field(default_factory=set)
    note: str = ""
    seconds: float = 0.0
    error: str = ""
    unable: str = ""

    def row(self) -> tuple[str, ...]:
        """A row of the table."""
        one = self.account
        counts = (one.events, len(one.lost), len(one.doubled), len(one.disorder))
        told = ", ".join(f"[{name}](#{name.lower()}): {took:.0f}" for name, took in self.fired_s.items())
        if self.error or self.unable:
            told = "failed" if self.error else f"not tried: {self.unable}"
        also = ", ".join(sorted(self.also - self.fired_s.keys() - set(COUNTERS))) or "-"
        return (self.title, told, *(f"{count:,}" for count in counts), also, f"{self.seconds:.0f}")


def play(situation: Situation, stage: Stage, outcome: Outcome) -> None:
    """Play a situation on a stage. AssertionError where something is not as it must be."""
    situation.before(stage)
    stage.prepare(situation.configure, "shadow" in situation.roles)
    situation.ready(stage)
    for role, workers in situation.roles.items():
        more = situation.options if role == "live" else ("--store-every", "1") if role == "calibrate" else ()
        stage.run(role, workers, *more)
    for run in stage.runs.values():
        run.await_said("assigned" if run.role != "calibrate" else "generation")
    stage.observe()
    stage.load(situation.rates)
    stage.await_answers(situation.flows)
    stage.await_quiet(situation.alerts)
    stage.seen.clear()
    began = time.monotonic()
    situation.strike(stage)
    for alert in situation.alerts:
        stage.await_firing([alert])
        outcome.fired_s[alert] = time.monotonic() - began
    situation.meanwhile(stage)
    for alert in situation.alerts:
        stage.consult(alert)
    situation.end(stage)
    stage.await_answers(situation.flows)
    stage.await_quiet(situation.alerts)
    outcome.also = set(stage.seen)
    outcome.account = stage.finish([*situation.roles])
    situation.check(stage, outcome.account)
    outcome.note = situation.note
    assert outcome.account.kept, outcome.account


def tried(kind: type[Situation], folder: Path) -> Outcome:
    """Play a situation on a stage of its own; `folder` keeps the logs."""
    outcome, began, situation = Outcome(kind.title), time.monotonic(), kind()
    try:
        with situation.kafka(folder / "kafka") as kafka, Stage(folder, kafka, model=kind.model) as stage:
            play(situation, stage, outcome)
    except Unable as error:
        outcome.unable = str(error)
    except Exception:  # noqa: BLE001  # whatever it is, the others are still to be played
        outcome.error = traceback.format_exc()
    outcome.seconds = time.monotonic() - began
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """What was found, as docs/runbooks.md shows it."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS), *(one.row() for one in outcomes)]
    notes = [f"{one.title}: {one.note}" for one in outcomes if one.note]
    return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), *notes])


def main(arguments: Sequence[str]) -> int:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(
        prog="alert-drill", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("situation", nargs="*", default=[""], help=", ".join(one.title for one in SITUATIONS))
    parser.add_argument("--keep", type=Path, help="folder for the logs")
    asked = parser.parse_args(arguments)
    chosen = [one for one in SITUATIONS if any(word.lower() in one.title.lower() for word in asked.situation)]
    if not chosen:
        parser.error(f"no situation has {asked.situation} in its title")
    if program() is None:
        parser.error("there is no Prometheus: `make promtool` fetches it")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    os.environ.setdefault("JDK_JAVA_OPTIONS", FAST_START)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="alert-drill-") as passing:
        for number, one in enumerate(chosen, start=1):
            print(f"{number} of {len(chosen)}: {one.title}", file=sys.stderr, flush=True)
            outcomes.append(tried(one, (asked.keep or Path(passing)) / "-".join(one.title.lower().split())))
            print(outcomes[-1].error or outcomes[-1].row(), file=sys.stderr, flush=True)
    print(table(outcomes))
    wanted = {alert: held_for_s(alert) for one in chosen for alert in one.alerts}
    later = ", ".join(f"{alert} {held * (1 - 1 / FACTOR):.0f}" for alert, held in wanted.items())
    print(
        f"windows were divided by {FACTOR}; as shipped, what a rule wants to hold takes so many seconds more: {later}"
    )
    return int(any(one.error or one.unable for one in outcomes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
