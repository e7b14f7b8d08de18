"""The thread that looks for drift: what ends it ends the process, and what it publishes is not given to another."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from muse_stream.control import Held, Lease, Store, open_store
from muse_stream.runtime import drift_watch
from muse_stream.runtime.calibrate_metrics import CalibrateMetrics
from muse_stream.runtime.drift_looks import DRIFT_LEASE, TenantDrift, Windows
from muse_stream.runtime.drift_watch import DriftWatch, Looked
from muse_stream.runtime.refreshing import RefreshState
from tests.patience import PATIENCE, until
from tests.worker.doubles import ListLog


class Publishing:
    """Stands for a refresher whose publication takes long."""

    applied = 0

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.over, self._error = threading.Event(), threading.Event(), error

    def look(self, _found: Sequence[TenantDrift], _generation: int | None) -> None:
        if self._error is not None:
            raise self._error

    def turn(self) -> bool:
        self.begun.set()
        return self.over.wait(60 * PATIENCE)

    def states(self) -> Sequence[RefreshState]:
        return ()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(drift_watch, "drifts", lambda *_of: [])
    monkeypatch.setattr(drift_watch, "CLOSE_S", 0.2)
    yield open_store(tmp_path / "store")


def watching(store: Store, refresher: Publishing, log: ListLog, look_s: float = 900.0) -> DriftWatch:
    looked, metrics = Looked(frozenset({"acme"}), refreshed=True), CalibrateMetrics("main", 0)
    watch = DriftWatch(store, "main", Windows(), look_s, lambda: looked, metrics, log)
    watch.make_refresher = lambda: refresher
    watch.start()
    return watch


def lease(store: Store) -> Lease:
    return Lease(store, f"{DRIFT_LEASE}-main", "drift")


def test_what_nobody_foresaw_in_a_look_is_raised_where_it_ends_the_process(store: Store) -> None:
    watch = watching(store, Publishing(ZeroDivisionError("seen")), ListLog())

    def raised() -> bool:
        try:
            watch.raise_failed()
        except ZeroDivisionError:
            return True
        return False

    until(raised, 20)
    watch.close()
    with lease(store):
        pass


def test_who_ends_in_a_publication_keeps_the_lease_until_it_runs_out(store: Store) -> None:
    refresher, log = Publishing(), ListLog()
    watch = watching(store, refresher, log)
    assert refresher.begun.wait(20 * PATIENCE)
    watch.raise_failed()
    watch.close()
    assert log.said("refresh_left")
    with pytest.raises(Held), lease(store):
        pass
    refresher.over.set()
    watch.close()
    with lease(store):
        pass


def test_what_a_look_has_left_is_worked_off_before_the_next_however_long_looks_take(store: Store) -> None:
    refresher = Publishing()
    watch = watching(store, refresher, ListLog(), look_s=0.0)  # at once, as where a look takes longer than that
    assert refresher.begun.wait(20 * PATIENCE)
    refresher.over.set()
    watch.close()
