"""Workers whose generation store is a Redis that fails, under load: scores go on, exactly once, and nothing goes back.

The long form, with all faults one after the other and the gaps between scores, is `python -m tests.store_faults`. What
each fault does to one worker's view is in tests/control.
"""

from pathlib import Path

import pytest

from muse_stream.testing.kafka_broker import Broker
from muse_stream.testing.redis_server import missing_server
from tests.integration.bank import Bank
from tests.integration.redis_faults import SentinelGroup
from tests.patience import PATIENCE, until
from tests.store_faults.watch import Watch, publish

pytestmark = pytest.mark.skipif(
    bool(missing_server()), reason=f"a Redis to break is this machine's: {missing_server()}"
)
SHORT = ("stop", "kill", "password", "noperm", "latency", "garbage", "garbled", "newer", "flush", "older")


@pytest.mark.long  # ten faults; tests/control/test_redis_store.py has each for one reader
@pytest.mark.timeout(240 * PATIENCE)
def test_a_redis_that_fails_stops_no_score_and_takes_nobody_back(
    bank: Bank, kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "operator"))
    with Watch(bank, kafka.bootstrap, tmp_path, per_s=300) as watch:
        for name in SHORT:
            watch.strike(name)
        watch.restarted_while_away()
        watch.finish()
    assert watch.broken() == []


@pytest.mark.long  # tests/control has it for one reader
@pytest.mark.timeout(120 * PATIENCE)
def test_a_start_without_store_and_without_copy_says_so_and_the_next_one_serves(
    bank: Bank, kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "operator"))
    with Watch(bank, kafka.bootstrap, tmp_path, per_s=100) as watch:
        watch.moved_to_a_new_machine_while_away()
        watch.finish()
    assert watch.broken() == []


@pytest.mark.timeout(120 * PATIENCE)
def test_a_failover_of_sentinel_stops_no_score_and_the_next_publish_is_served(
    bank: Bank, kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The master is killed under load; what was replicated stays current, and is moved on at the new master."""
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "operator"))
    with SentinelGroup(tmp_path) as group:
        assert publish(group.url, bank, "plain") == 1
        with Watch(bank, kafka.bootstrap, tmp_path, per_s=200, store=group.url) as watch:
            group.replicated()
            group.kill_master()
            numbers: list[int] = []

            def published() -> bool:  # a try that ends in the middle may have taken a number
                numbers.append(publish(group.url, bank, "retrained"))
                return numbers[-1] > 1

            until(published, 60, lambda: str(numbers))
            watch.serves(numbers[-1])
            until(watch.well, 30, watch.said)
            watch.finish()
    assert watch.broken() == []
