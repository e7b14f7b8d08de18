"""Probes and Prometheus come from outside: a running worker answers them on every address, as Kubernetes tells it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psutil
import pytest

from muse_stream.telemetry import HealthServer
from muse_stream.testing import local_kafka
from muse_stream.testing.kafka_broker import Broker
from tests.integration.fleet import ROOT, Fleet, publish
from tests.patience import PATIENCE, until

ELSEWHERE = "127.0.0.2"
"""As good as any address of this machine that is not 127.0.0.1."""
PAGES = ("live", "ready")
SLOTS = ("worker shadow main test slot 0", "worker shadow main test slot 1")


def fetch(port: int, page: str) -> str:
    with suppress(OSError):
        connection = HTTPConnection(ELSEWHERE, port, timeout=5)
        connection.request("GET", page)
        return connection.getresponse().read().decode()
    return ""


def title(pid: int) -> str:
    """What `ps` shows; nothing of a process that has ended meanwhile."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    return ""


def titles(pid: int) -> set[str]:
    """What `ps` shows of a supervisor's children."""
    return {title(one.pid) for one in psutil.Process(pid).children()}


@pytest.mark.long  # three starts; the last test looks at the title of one worker
def test_a_spare_has_a_title_of_its_own(kafka: Broker, tmp_path: Path) -> None:
    store = tmp_path / "store"
    publish(ROOT / "deploy" / "config" / "muse.yaml", store)
    with Fleet(kafka.bootstrap, store, "shadow", "main", tmp_path / "log", workers=2, spare=True) as fleet:
        wanted = {f"muse-stream: {kind}" for kind in ("spare shadow main test", *SLOTS)}

        def found() -> set[str]:
            return titles(fleet.process.pid)

        until(lambda: found() == wanted, 60, lambda: str(found()))
        fleet.kill(0)
        until(lambda: bool(fleet.lines("worker_ended")), 20, lambda: str(found()))
        until(lambda: found() == wanted, 60, lambda: str(found()))
        assert fleet.stop(signal.SIGINT) == 0


@pytest.mark.long  # tests/cli/test_signals.py has programs whose standard streams are full or closed
@pytest.mark.parametrize("broken", ["full disk", "nobody reads it"])
def test_a_log_that_cannot_be_written_ends_no_run(kafka: Broker, tmp_path: Path, broken: str) -> None:
    (port,) = local_kafka.free_ports(1)
    command = [str(Path(sys.executable).with_name("muse-stream")), "run", "--role", "shadow", "--name", tmp_path.name]
    command += ["--config", str(ROOT / "deploy" / "config" / "muse.yaml"), "--health-port", str(port)]
    reading, writing = os.pipe()
    os.close(reading)
    with Path("/dev/full").open("wb") as full, os.fdopen(writing, "wb") as pipe:
        out = full if broken == "full disk" else pipe
        environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "MUSE_LOG_LEVEL": "debug"}
        with subprocess.Popen(command, env=environment, stdout=out, stderr=out) as worker:
            try:
                until(lambda: "paused" in fetch(port, "/ready"), 60, lambda: fetch(port, "/ready"))
            finally:
                worker.send_signal(signal.SIGINT)
            assert worker.wait(30 * PATIENCE) == 0


@pytest.mark.long  # five starts; tests/runtime/test_supervisor.py has a worker that crashes again and again
def test_a_port_that_is_taken_when_a_worker_starts_is_no_crash_without_end(kafka: Broker, tmp_path: Path) -> None:
    """The command has asked before; somebody may have come since."""
    store = tmp_path / "store"
    publish(ROOT / "deploy" / "config" / "muse.yaml", store)
    with HealthServer(0, lambda: True, lambda: True, host="0.0.0.0") as taken:  # noqa: S104
        log = tmp_path / "log"
        options: dict[str, Any] = {"health_port": taken.port, "longest_backoff_s": 0.2}
        with Fleet(kafka.bootstrap, store, "shadow", "main", log, workers=1, **options) as fleet:
            assert fleet.process.wait(60 * PATIENCE) == 1
        wanted = f"health pages: cannot listen on 0.0.0.0, port {taken.port}: [Errno 98] Address already in use"
        assert {line["error"] for line in fleet.lines("worker_failed")} == {wanted}
        (end,) = fleet.lines("gave_up")
        assert end["error"] == f"5 crashes and no worker has served yet; the last reason: {wanted}"
        assert "Traceback" not in fleet.log.read_text(encoding="utf-8")


def test_a_worker_is_set_up_by_variables_and_answers_from_outside(kafka: Broker, tmp_path: Path) -> None:
    """Also by a properties file: each of its clients takes what is for its kind, and warns of nothing."""
    (port,) = local_kafka.free_ports(1)
    properties = tmp_path / "kafka.properties"
    properties.write_text("client.rack=a\nfetch.min.bytes=1\nbatch.num.messages=500\ndebug=conf\n", encoding="utf-8")
    variables = {
        "MUSE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "MUSE_KAFKA_PROPERTIES_FILE": str(properties),
        "MUSE_HEALTH_PORT": str(port),
        "MUSE_LOG_LEVEL": "debug",
    }
    command = [str(Path(sys.executable).with_name("muse-stream")), "run", "--role", "shadow", "--no-spare"]
    command += ["--config", str(ROOT / "deploy" / "config" / "muse.yaml"), "--name", tmp_path.name]
    log = tmp_path / "log"
    with log.open("wb") as out, subprocess.Popen(command, env=os.environ | variables, stdout=out, stderr=out) as worker:
        try:
            until(lambda: fetch(port, "/live") == "ok\n", 60, lambda: log.read_text(encoding="utf-8")[-2000:])
            until(lambda: "muse_" in fetch(port, "/metrics"), 20, lambda: fetch(port, "/metrics") or "no page")
            # its topics do not exist: it has nothing to do, and says so
            paused = "every event topic of this lane is paused"
            until(lambda: paused in fetch(port, "/ready"), 20, lambda: fetch(port, "/ready"))
            check = [sys.executable, str(ROOT / "deploy" / "healthcheck.py")]

            def codes() -> list[int]:
                done = [subprocess.run([*check, page], env=os.environ | variables, check=False) for page in PAGES]
                return [one.returncode for one in done]

            until(lambda: codes() == [0, 1], 20, lambda: f"alive, and not ready: {codes()}")
            assert title(worker.pid) == f"muse-stream: supervisor shadow main {tmp_path.name}"
            assert titles(worker.pid) == {f"muse-stream: worker shadow main {tmp_path.name} slot 0"}
            # a thread of the supervisor would be missing in every worker that is forked from it
            assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) == 1
        finally:
            worker.send_signal(signal.SIGINT)
        assert worker.wait(30 * PATIENCE) == 0
    said = log.read_text(encoding="utf-8")
    assert "client.rack = a" in said  # librdkafka's own word
    assert "CONFWARN" not in said
