"""`muse-stream broker`: an address for as long as it runs, and nothing afterwards."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from muse_stream.cli import broker as command
from muse_stream.cli.main import main
from muse_stream.errors import MuseError
from muse_stream.testing import local_kafka, probe
from muse_stream.testing.kafka_broker import PLACES, Broker, Cluster

Eventually = Callable[[Callable[[], object], float], None]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", raising=False)


@contextmanager
def started(*options: str) -> Iterator[subprocess.Popen[str]]:
    program = str(Path(sys.executable).with_name("muse-stream"))
    with subprocess.Popen(
        [program, "broker", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def runs(port: int) -> list[Path]:
    """Return the folders of the brokers on this port: one on the JVM, none of a container."""
    files = local_kafka.run_folders(PLACES.cache).glob("*/server.properties")
    return [file.parent for file in files if f":{port}," in file.read_text(encoding="utf-8")]


@pytest.mark.broker
@pytest.mark.usefixtures("nothing_named")
def test_it_answers_on_the_port_until_ctrl_c_and_leaves_nothing() -> None:
    (port,) = local_kafka.free_ports(1)
    with started("--port", str(port), "--json") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["bootstrap_servers"].endswith(f":{port}")
        assert told["broker"] in ("container", "local JVM")
        assert probe.answers(told["bootstrap_servers"], 10.0)
        mine = runs(port)
        assert bool(mine) == (told["broker"] == "local JVM")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=280)
        # all of it is gone when the command is: whoever waits for it may take the port again
        assert not probe.listens(told["bootstrap_servers"], 1.0)
    assert (process.returncode, out) == (0, ""), err
    assert "Traceback" not in err
    assert [run for run in mine if run.exists()] == []


@pytest.mark.usefixtures("nothing_named")
def test_a_port_that_is_taken_is_said_at_once(capsys: Output) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["broker", "--port", str(port)]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert f"a broker cannot listen on 127.0.0.1:{port}: address already in use; choose another port" in shown.err


def test_a_login_that_no_broker_here_would_ask_for(
    monkeypatch: pytest.MonkeyPatch, nothing_named: None, capsys: Output
) -> None:
    """Its clients would all be refused: they log in, and it takes no logins."""
    monkeypatch.setenv("MUSE_KAFKA_SECURITY_PROTOCOL", "SSL")
    assert main(["broker"]) == 1
    assert "the security protocol is set to SSL" in capsys.readouterr().err


def test_a_cluster_of_ones_own_is_named_and_left_alone(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    monkeypatch.setattr(command, "_keep", lambda _kafka: None)
    assert main(["broker"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"export MUSE_KAFKA_BOOTSTRAP_SERVERS={kafka.bootstrap}\n"
    assert "Nothing was started: this cluster answers." in shown.err
    assert main(["broker", "--port", "9092"]) == 2
    said = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert "no broker is started: MUSE_KAFKA_BOOTSTRAP_SERVERS names a cluster" in said
    assert probe.answers(kafka.bootstrap, 10.0)


def test_a_cluster_that_is_away_says_how_to_get_a_broker(monkeypatch: pytest.MonkeyPatch, capsys: Output) -> None:
    """Yesterday's `export` still stands in the shell, and yesterday's broker is gone."""
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert main(["broker"]) == 1
    said = capsys.readouterr().err
    assert "MUSE_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1: no Kafka broker answers there" in said
    assert "unset it to have a broker started here" in said


class Dying(Cluster):
    """A broker that ends by itself."""

    def running(self) -> bool:
        return False


def test_a_broker_that_ends_by_itself_ends_the_command() -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(MuseError, match="the broker has ended by itself"):
        command._keep(Dying("127.0.0.1:1"))
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@pytest.mark.long  # the first test ends one that has started
@pytest.mark.usefixtures("nothing_named")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_interrupted_is_cleared_away(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stop: signal.Signals, eventually: Eventually
) -> None:
    """Maven is still fetching the jars: it ends, and so does its half-filled folder."""
    program = f"""
import sys
from pathlib import Path
from muse_stream.testing import kafka_broker
kafka_broker.PLACES = kafka_broker.Places(kafka_broker.PLACES.files, Path({str(tmp_path / "cache")!r}))
from muse_stream.cli.main import main
sys.exit(main(["broker", "--port", "0"]))
"""
    tools: dict[str, Any] = {"java": "echo 'version \"17\"' >&2", "mvn": f"echo $$ >{tmp_path}/mvn.pid; exec sleep 60"}
    for name, script in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True) as process:
        pid = tmp_path / "mvn.pid"
        eventually(lambda: pid.exists() and pid.read_text().endswith("\n"), 30.0)  # it is there before it is written
        process.send_signal(stop)
        _, err = process.communicate(timeout=280)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    maven = pid.read_text().strip()
    eventually(lambda: not Path(f"/proc/{maven}").exists(), 10.0)
    assert [*(tmp_path / "cache").glob("*")] == []
