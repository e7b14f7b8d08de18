"""Probes and Prometheus come from outside: a running worker answers them on every address, as Kubernetes tells it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path

from muse_stream.testing import local_kafka
from muse_stream.testing.kafka_broker import Broker
from tests.integration.fleet import ROOT
from tests.patience import PATIENCE, until

ELSEWHERE = "127.0.0.2"
"""As good as any address of this machine that is not 127.0.0.1."""


def fetch(port: int, page: str) -> str:
    with suppress(OSError):
        connection = HTTPConnection(ELSEWHERE, port, timeout=5)
        connection.request("GET", page)
        return connection.getresponse().read().decode()
    return ""


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
            assert "muse_" in fetch(port, "/metrics")
            # a thread of the supervisor would be missing in every worker that is forked from it
            assert len(list(Path(f"/proc/{worker.pid}/task").iterdir())) == 1
        finally:
            worker.send_signal(signal.SIGINT)
        assert worker.wait(30 * PATIENCE) == 0
    said = log.read_text(encoding="utf-8")
    assert "client.rack = a" in said  # librdkafka's own word
    assert "CONFWARN" not in said
