"""One process of a lane looks for drift every so often, and has maps refreshed where that is the policy.

Who has the lease looks; the others only count. What a look finds goes into the log, the metrics and the store (for
`status`). Refreshes are worked off before the next look, one at a time. All of it is done by a thread of its own: a
publication takes seconds, and counting goes on (decision 0054).
"""

import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from muse_stream.control import Held, Lease, Store
from muse_stream.errors import MuseError
from muse_stream.runtime.calibrate_metrics import CalibrateMetrics
from muse_stream.runtime.drift_looks import DRIFT_LEASE, TenantDrift, Windows, drifts
from muse_stream.runtime.drift_verdicts import keep_verdicts
from muse_stream.runtime.refreshing import Refresher
from muse_stream.telemetry import Log

TURN_S = 0.2
CLOSE_S = 5.0
"""How long is waited for a publication under way when the process ends: whoever stops it leaves a proposal."""


class Looked(NamedTuple):
    """What is looked at now."""

    tenants: frozenset[str]
    refreshed: bool
    """Whether the maps of any of these tenants are refreshed."""


class DriftWatch:
    """Looks, while it has the lease, from `start` to `close`. The store is its own: `close` closes it."""

    def __init__(
        self,
        store: Store,
        lane: str,
        windows: Windows,
        look_s: float,
        looked: Callable[[], Looked],
        metrics: CalibrateMetrics,
        log: Log,
    ) -> None:
        self.store, self._lane, self._windows, self._look_s = store, lane, windows, look_s
        self._now_looked, self._metrics, self._log = looked, metrics, log
        self._looked = float("-inf")
        self._lease: Lease | None = None
        self._drifted: frozenset[tuple[str, str]] = frozenset()
        self._refresher: Refresher | None = None
        self.make_refresher: Callable[[], Refresher] | None = None
        """None: nothing is refreshed."""
        self.busy_since: float | None = None
        """When the last turn began (monotonic seconds), for a watchdog."""
        self._failed: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="drift-watch", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def raise_failed(self) -> None:
        """Raise what has ended the thread, if anything has."""
        if self._failed is not None:
            raise self._failed

    def close(self) -> None:
        """Look no more, and let another process look; a publication that does not end in time is left where it is."""
        self._ended.set()
        if self._thread.ident:
            self._thread.join(CLOSE_S)
        if self._thread.is_alive():  # its lease runs out by itself
            self._log.warning("refresh_left", hint="the next process finds out what became of it")
            return
        if self._lease is not None:
            self._lease.__exit__(None, None, None)
        self.store.close()

    def check(self) -> None:
        """Raise Held where another process looks, StoreError where the store does not answer."""
        if self._lease is None:
            self._lease = Lease(self.store, f"{DRIFT_LEASE}-{self._lane}", "drift").__enter__()
        self._lease.check()

    def turn(self) -> None:
        """Do one piece of what the last look has left; look where nothing is left and it is time to.

        In this order: where looks take longer than the time between them, what they find must still be worked off.
        """
        tenants, refreshed = self._now_looked()
        if self._refresher is not None and self._lease is not None and self._refresher.turn():
            self._metrics.show_refreshes(self._refresher)
        elif time.monotonic() - self._looked >= self._look_s:
            self._looked = time.monotonic()
            if refreshed and self._refresher is None and self.make_refresher is not None:
                self._refresher = self.make_refresher()  # it loads much: not before it is needed
            self._look(tenants)

    def _run(self) -> None:
        try:
            while not self._ended.is_set():
                self.busy_since = time.monotonic()
                self.turn()
                self._ended.wait(TURN_S)
        except BaseException as error:  # noqa: BLE001 - the process ends by it, in its own thread
            self._failed = error

    def _look(self, tenants: frozenset[str]) -> None:
        try:
            self.check()
            generation = self.store.current()
            found = drifts(self.store, self._windows, sorted(tenants))
            keep_verdicts(self.store, self._lane, found, 3 * self._look_s)
        except Held:
            self._lease = None
            return
        except MuseError as error:
            self._log.error("drift_not_looked_for", error=str(error))
            return
        self._metrics.show(found)
        self._tell(found)
        if self._refresher is not None:
            try:
                self._refresher.look(found, generation)
            except MuseError as error:
                self._log.error("refresh_failed", error=str(error))
            self._metrics.show_refreshes(self._refresher)

    def _tell(self, found: list[TenantDrift]) -> None:
        drifted = frozenset((one.tenant, one.predictor) for one in found if one.drift.drifted)
        for one in found:
            key = one.tenant, one.predictor
            if (key in drifted) != (key in self._drifted):
                told = self._log.warning if key in drifted else self._log.info
                told("drift_established" if key in drifted else "drift_over", **one.to_json())
        self._drifted = drifted
