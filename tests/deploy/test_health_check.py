"""The health check of image and compose file: it asks the pages of the workers, the right one for its reader."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from muse_stream.telemetry import HealthServer
from muse_stream.telemetry.health import Question
from muse_stream.testing.local_kafka import free_ports

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "deploy" / "healthcheck.py"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = YAML(typ="safe").load(ROOT / "deploy" / "compose.yaml")
WORKERS = ("live-1", "live-2", "shadow", "calibrate")


def ask(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the check as Docker does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MUSE_")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env=clean | environment, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.strip()


def no(text: str) -> Question:
    return lambda: text


def test_it_asks_the_page_that_it_is_told() -> None:
    with HealthServer(0, lambda: True, no("nobody knows what waits")) as server:
        port = str(server.port)
        assert ask("live", MUSE_HEALTH_PORT=port) == (0, "ok")
        said = f"worker 0: port {port}: nobody knows what waits"
        assert ask("ready", MUSE_HEALTH_PORT=port) == (1, said)
        assert ask("ready", MUSE_HEALTH_PORT=port, MUSE_HEALTH_HOST="0.0.0.0") == (1, said)  # noqa: S104
        code, said = ask("live", MUSE_HEALTH_PORT=port, MUSE_HEALTH_HOST="127.0.0.2")
        assert (code, "refused" in said) == (1, True)
    code, said = ask("live", MUSE_HEALTH_PORT=port)
    assert (code, "refused" in said) == (1, True), "the worker has ended"


def neighbours() -> tuple[HealthServer, HealthServer]:
    """The pages of two workers, on two ports side by side that nobody has."""
    for port in free_ports(50):
        try:
            first = HealthServer(port, lambda: True, lambda: True)
        except OSError:
            continue
        try:
            return first, HealthServer(port + 1, lambda: True, no("draining"))
        except OSError:
            first.stop()
    raise AssertionError("no two ports side by side are free")


def test_every_worker_is_asked() -> None:
    first, second = neighbours()
    with first, second:
        port = str(first.port)
        assert ask("ready", "1", MUSE_HEALTH_PORT=port) == (0, "ok")
        assert ask("ready", "2", MUSE_HEALTH_PORT=port) == (1, f"worker 1: port {second.port}: draining")


@pytest.mark.parametrize("port", [{}, {"MUSE_HEALTH_PORT": ""}, {"MUSE_HEALTH_PORT": "tcp://10.0.0.1:80"}])
def test_without_pages_there_is_nothing_to_ask(port: dict[str, str]) -> None:
    """`docker run muse-stream verify ...`; the last is what Kubernetes injects for a Service named muse-health."""
    assert ask("live", **port) == (0, "no MUSE_HEALTH_PORT: nothing to ask")


def test_the_image_asks_whether_a_restart_would_help() -> None:
    (check,) = [line for line in DOCKERFILE.splitlines() if line.startswith("HEALTHCHECK")]
    assert check.endswith('CMD ["python3", "/opt/muse/healthcheck.py", "live"]')
    assert "COPY deploy/healthcheck.py /opt/muse/healthcheck.py" in DOCKERFILE


@pytest.mark.parametrize("service", WORKERS)
def test_a_worker_of_the_compose_file_has_a_name_and_is_healthy_when_it_is_ready(service: str) -> None:
    worker: dict[str, Any] = COMPOSE["services"][service]
    assert worker["healthcheck"]["test"] == ["CMD", "python3", "/opt/muse/healthcheck.py", "ready"]
    assert worker["environment"]["MUSE_HEALTH_PORT"]
    command = worker["command"]
    assert command[command.index("--name") + 1] == f"compose-{service}"


def test_what_is_no_worker_is_not_asked() -> None:
    assert COMPOSE["services"]["topics"]["healthcheck"] == {"disable": True}
