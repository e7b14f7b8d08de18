"""Workers whose generation store is a Redis that fails, under load: scores go on, exactly once, and nothing goes back.

The Redis is one of its own, broken in every way; what each fault does to one worker's view is in tests/control.
"""

import shutil
import subprocess
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from muse_stream.config import load_document
from muse_stream.control import open_store
from muse_stream.testing import LocalRedis, local_kafka
from muse_stream.testing.kafka_broker import Broker
from muse_stream.testing.redis_server import missing_server
from tests.integration.bank import Bank
from tests.integration.fleet import Fleet
from tests.integration.test_faults import Feeder, live_witness
from tests.integration.witness import broken_promises
from tests.patience import until

pytestmark = pytest.mark.skipif(
    bool(missing_server()), reason=f"a Redis to break is this machine's: {missing_server()}"
)


def page(port: int, name: str) -> str:
    with suppress(OSError):
        connection = HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", name)
        return connection.getresponse().read().decode()
    return ""


def publish(url: str, bank: Bank, model: str) -> int:
    """As an operator: the next generation, current at once."""
    store = open_store(url)
    number = store.publish(load_document(bank.document(live=model, shadow=())))
    store.move_current(store.current(), number)
    store.close()
    return number


@pytest.mark.timeout(600)
def test_a_redis_that_fails_stops_no_score_and_takes_nobody_back(
    bank: Bank, kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "operator"))
    cache = {"MUSE_CACHE_DIR": str(tmp_path / "worker")}
    (port,) = local_kafka.free_ports(1)
    feeder = Feeder(bank, kafka.bootstrap, per_s=300)

    def start() -> Fleet:
        options: dict[str, Any] = {"health_port": port, "health_host": "127.0.0.1", "longest_backoff_s": 0.5}
        return runs.enter_context(
            Fleet(kafka.bootstrap, redis.url, "live", bank.name, log, workers=1, environment=cache, **options)
        )

    def serves(number: int) -> None:
        def now(mark: int = len(witness.seen)) -> bool:
            return len(witness.seen) > mark + 50 and witness.seen[-1].body["generation"] == number

        until(now, 60, lambda: f"generation {number} does not answer: {log.read_text()[-3000:]}")

    def told(text: str) -> None:
        def ready() -> bool:  # the last good generation is served: that is ready
            said = page(port, "/ready")
            return said.startswith("ok\n") and text in said

        until(ready, 60, lambda: f"{text!r} not in {page(port, '/ready')!r}")
        assert "muse_generation_refused 1.0" in page(port, "/metrics")
        assert text in log.read_text()

    log = tmp_path / "live.log"
    with ExitStack() as runs, LocalRedis() as redis, live_witness(bank, kafka.bootstrap) as witness, feeder:
        publish(redis.url, bank, "plain")
        live = start()
        serves(1)
        subprocess.run(["redis-cli", "-p", str(redis.port), "SAVE"], check=True, capture_output=True)
        backup = Path(shutil.copy(redis.folder / "dump.rdb", tmp_path / "backup.rdb"))
        publish(redis.url, bank, "retrained")
        serves(2)
        redis.pause()
        told("no answer within 1 s")
        serves(2)
        redis.resume()
        until(lambda: page(port, "/ready") == "ok\n", 30, lambda: page(port, "/ready"))
        redis.kill()
        told("refused")
        assert live.stop() == 0
        live = start()  # from the copy on this machine
        serves(2)
        told("refused")
        shutil.rmtree(redis.folder / "appendonlydir")
        redis.restart()
        told("is empty, and generation 2 was current")
        serves(2)
        restore(redis, backup)
        told("generation 1 is current, which is older")
        serves(2)
        assert publish(redis.url, bank, "plain") == 3
        serves(3)
        until(lambda: page(port, "/ready") == "ok\n", 30, lambda: page(port, "/ready"))
        assert "muse_generation_refused 0.0" in page(port, "/metrics")
        feeder.__exit__()
        witness.wait_for(sum(feeder.counts.values()), 60)
        assert live.stop() == 0
    assert broken_promises(witness.seen, dict(feeder.counts)) == []
    order = [one.body["generation"] for one in witness.seen]
    assert order.index(2) < order.index(3)
    assert {1, 2, 3} == set(order)


def restore(redis: LocalRedis, backup: Path) -> None:
    """Put an older backup in place, by Redis's own means: a server that reads it, and writes its own files again."""
    redis.kill()
    shutil.rmtree(redis.folder / "appendonlydir")
    shutil.copy(backup, redis.folder / "dump.rdb")
    command = ["redis-server", "--port", str(redis.port), "--bind", "127.0.0.1", "--dir", str(redis.folder)]
    cli = ["redis-cli", "-p", str(redis.port)]
    with subprocess.Popen([*command, "--appendonly", "no"], stdout=subprocess.DEVNULL) as server:
        until(lambda: b"PONG" in subprocess.run([*cli, "PING"], capture_output=True, check=False).stdout, 20)
        subprocess.run([*cli, "CONFIG", "SET", "appendonly", "yes"], check=True, capture_output=True)

        def rewritten() -> bool:
            said = subprocess.run([*cli, "INFO", "persistence"], capture_output=True, check=True).stdout
            return b"aof_rewrite_in_progress:0" in said and b"aof_rewrite_scheduled:0" in said

        until(rewritten, 20)
        subprocess.run([*cli, "SHUTDOWN", "NOSAVE"], check=False, capture_output=True)
        server.wait(60)
    redis.restart()
