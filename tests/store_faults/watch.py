"""Workers under load on a store that is broken, and what is seen of it: scores, health pages, log.

Every fault ends with an operator's publish that is followed. The account is an independent reader's.
"""

import re
import time
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any

from muse_stream.config import load_document
from muse_stream.control import open_store
from muse_stream.errors import StoreError
from muse_stream.testing import local_kafka
from tests.integration.bank import PARTITIONS, Bank
from tests.integration.fleet import Fleet
from tests.integration.redis_faults import FAULTS, Scene
from tests.integration.test_faults import Feeder
from tests.integration.witness import Seen, Witness, broken_promises
from tests.patience import PATIENCE, until


def publish(url: str, bank: Bank, model: str) -> int:
    """As an operator: the next generation, current at once; 0 where the store does not take it."""
    store = open_store(url)
    try:
        number = store.publish(load_document(bank.document(live=model, shadow=())))
        store.move_current(store.current(), number)
        return number
    except StoreError:
        return 0
    finally:
        store.close()


class Timed(Witness):
    """A witness that notes when it saw each answer."""

    def __init__(self, bootstrap: str, bank: Bank) -> None:
        self.times: list[float] = []
        super().__init__(bootstrap, bank.topics(["scores"]), bank.topics(["dlq"]), PARTITIONS, "score.avsc")

    def _read(self) -> None:
        while not self._stop.is_set():
            found = [self.decode(message) for message in self._reader.read(0.05, 1_000)]
            self.times += [time.monotonic()] * len(found)
            self.seen += found

    def longest_gap_s(self, since: float) -> float:
        """Return the longest time without an answer since then."""
        times = [since, *(one for one in self.times if one >= since), time.monotonic()]
        return max(later - earlier for earlier, later in pairwise(times))


class Watch:
    """Workers of a bank, events for them, and what becomes of both. `store`: of somebody else's making."""

    def __init__(self, bank: Bank, bootstrap: str, folder: Path, *, per_s: int, store: str = "") -> None:
        self.gaps: dict[str, float] = {}
        """Fault -> longest time without a score, in seconds."""
        self._bank, self._bootstrap, self._folder = bank, bootstrap, folder
        self._store = store
        self._feeder = Feeder(bank, bootstrap, per_s=per_s)
        (self._port,) = local_kafka.free_ports(1)
        self._log = folder / "live.log"
        self._cache = folder / "worker"
        self._stack = ExitStack()
        self._fed = False
        self._witness: Timed

    def __enter__(self) -> "Watch":
        if not self._store:
            self.scene = self._stack.enter_context(Scene(self._bank, self._folder))
            self._store = self.scene.url
            self.scene.publish()
        self._live = self._start()
        self._witness = Timed(self._bootstrap, self._bank)
        self._stack.enter_context(self._witness)
        self._feeder.__enter__()
        self._fed = True
        self._stack.callback(self._still)
        self.serves(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> Fleet:
        options: dict[str, Any] = {"health_port": self._port, "health_host": "127.0.0.1", "longest_backoff_s": 0.5}
        named = {"MUSE_CACHE_DIR": str(self._cache)}
        if hasattr(self, "scene"):
            named["MUSE_STORE_PASSWORD_FILE"] = str(self.scene.password)
        return self._stack.enter_context(
            Fleet(
                self._bootstrap,
                self._store,
                "live",
                self._bank.name,
                self._log,
                workers=1,
                environment=named,
                **options,
            )
        )

    def strike(self, name: str) -> None:
        """One fault, while events come: it is told and stops nothing; then it is mended, and a publish is followed."""
        fault, began = FAULTS[name], time.monotonic()
        self.scene.seen = self.serves
        fault.strike(self.scene)
        if fault.said:
            self.told(fault.said)
        else:
            self.serves(self.scene.publish())
        self.serves(self.scene.before)
        self.gaps[name] = round(self._witness.longest_gap_s(began), 2)
        fault.mend(self.scene)
        self.serves(self.scene.publish())
        until(self.well, 30, self.said)

    def restarted_while_away(self) -> None:
        """A worker that starts while nobody listens at the store's address serves the copy on this machine."""
        self.scene.redis.kill()
        assert self._live.stop() == 0
        self._live = self._start()
        self.serves(self.scene.before)
        self.told(FAULTS["kill"].said)
        self.scene.redis.restart()
        until(self.well, 30, self.said)

    def moved_to_a_new_machine_while_away(self) -> None:
        """Without a copy a start ends, and says why; events wait."""
        self.scene.redis.kill()
        assert self._live.stop() == 0
        self._cache = self._folder / "another machine"
        alone = self._start()
        assert alone.process.wait(60 * PATIENCE) == 1
        assert "has no copy of it to start from" in self._log.read_text()
        self.scene.redis.restart()
        self._live = self._start()
        self.serves(self.scene.before)

    def serves(self, number: int) -> None:
        """Return when the latest of some new answers is of this generation."""

        def now(mark: int = len(self._witness.seen)) -> bool:
            seen = self._witness.seen
            return len(seen) > mark + 20 and seen[-1].body["generation"] == number

        until(now, 60, lambda: f"generation {number} does not answer: {self._log.read_text()[-3000:]}")

    def told(self, pattern: str) -> None:
        """Return when the readiness page and the metric say it, and the log; the worker is ready all the while."""

        def ready() -> bool:  # the last good generation is served: that is ready
            said = self.said()
            return (
                said.startswith("ok\n")
                and re.search(pattern, said) is not None
                and "muse_generation_refused 1.0" in self._page("/metrics")
                and re.search(pattern, self._log.read_text()) is not None
            )

        until(ready, 60, lambda: f"{pattern!r} not in {self.said()!r}, or not in log and metrics")

    def well(self) -> bool:
        """Whether the worker has no complaint."""
        return self.said() == "ok\n" and "muse_generation_refused 0.0" in self._page("/metrics")

    def said(self) -> str:
        """What the readiness page says."""
        return self._page("/ready")

    def _page(self, name: str) -> str:
        with suppress(OSError):
            connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
            connection.request("GET", name)
            return connection.getresponse().read().decode()
        return ""

    def _still(self) -> None:
        if self._fed:
            self._fed = False
            self._feeder.__exit__()

    def finish(self) -> None:
        """Let everything that was sent be answered, and the workers end."""
        self._still()
        self._witness.wait_for(sum(self._feeder.counts.values()), 60)
        assert self._live.stop() == 0

    @property
    def events(self) -> int:
        """How many were sent."""
        return sum(self._feeder.counts.values())

    def broken(self) -> list[str]:
        """What is wrong: lost, doubled or disordered answers, and any that an older generation gave after a newer."""
        return [*broken_promises(self._witness.seen, dict(self._feeder.counts)), *backwards(self._witness.seen)]


def backwards(seen: list[Seen]) -> list[str]:
    """Answers of an older generation behind newer ones, in one partition: no operator asked for it here."""
    latest: dict[tuple[str, int], int] = {}
    found = []
    for one in seen:
        place, number = one.source[:2], one.body["generation"]
        if number < latest.get(place, 0):
            found.append(f"{one.source}: generation {number} after {latest[place]}")
        latest[place] = max(number, latest.get(place, 0))
    return found[:5]
