"""A real Kafka broker for the demo and the tests: the ladder.

In: the environment. Out: `with broker() as kafka:` a broker whose `bootstrap` answers, from the first rung that holds:
  1. MUSE_KAFKA_BOOTSTRAP, somebody's own cluster: used, never stopped;
  2. a container of MUSE_KAFKA_IMAGE (default: apache/kafka of the pinned version), when a Docker engine answers
     and has the image or can pull it;
  3. Kafka's own jars on the local JVM.
Law: never a substitute for Kafka, and always a word about which rung was taken and why no higher one. However the
command ends, a broker that was started here is stopped and its ports and folder are released.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from muse_stream.demo.local_kafka import LocalKafka, jars, missing_tools
from muse_stream.errors import MuseError
from muse_stream.settings import KafkaSettings
from muse_stream.stream import client, probe

PROJECT = Path(__file__).resolve().parents[2]

Say = Callable[[str], object]


class Broker(Protocol):
    """A broker that answers; the faults are for tests, and refused with MuseError by a broker that is not ours."""

    bootstrap: str
    rung: str

    def kill(self) -> None:
        """End it at once, keeping its data."""

    def pause(self) -> None:
        """Freeze it: connections stay open and nobody answers."""

    def resume(self) -> None:
        """End a pause."""

    def restart(self) -> None:
        """Start it again on the same address and data; returns when it answers."""


class NoBroker(MuseError):
    """No rung of the ladder holds on this machine; the text says for each what it lacks."""


class Cluster:
    """Somebody's own cluster, named by MUSE_KAFKA_BOOTSTRAP."""

    rung = "MUSE_KAFKA_BOOTSTRAP"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def kill(self) -> None:
        """Refused: it is not ours."""
        raise MuseError(f"{self.rung} names a cluster of your own: it is never killed, paused or restarted from here")

    pause = resume = restart = kill


@contextmanager
def broker(say: Say = print) -> Iterator[Broker]:
    """A broker that answers, from the highest rung that holds; stopped at the end if it was started here.

    `say` gets one line per decision. Raises NoBroker, in a few lines with what to install, when no rung holds.
    """
    if bootstrap := os.environ.get("MUSE_KAFKA_BOOTSTRAP", "").strip():
        yield _own_cluster(bootstrap, say)
        return
    with _sigterm_unwinds():
        yield from _started(say)


def prepare(say: Say = print) -> None:
    """Fetch what the ladder will need (the jars), so that no test pays for a download. Raises NoBroker."""
    if not os.environ.get("MUSE_KAFKA_BOOTSTRAP"):
        _check_local()
        jars(PROJECT, say)


def _started(say: Say) -> Iterator[Broker]:
    _check_local()
    jars(PROJECT, say)
    local = LocalKafka(PROJECT)
    try:
        local.start()
        say(f"kafka: {local.rung}, {local.bootstrap}")
        yield local
    finally:
        local.close()


def _own_cluster(bootstrap: str, say: Say) -> Broker:
    secured = client.connection(KafkaSettings.from_environment())
    if not probe.answers(bootstrap, 10.0, secured):
        raise NoBroker(f"MUSE_KAFKA_BOOTSTRAP={bootstrap}: no Kafka broker answers there within 10 s")
    say(f"kafka: {Cluster.rung}, {bootstrap}")
    return Cluster(bootstrap)


def _check_local() -> None:
    if not (PROJECT / "deploy/kafka/pom.xml").exists():
        raise NoBroker("deploy/kafka is not beside the package: run from a clone, or set MUSE_KAFKA_BOOTSTRAP")
    if lacking := missing_tools():
        raise NoBroker(lacking)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Let SIGTERM unwind the stack as Ctrl-C does, unless the program has its own idea of it."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if not mine:
        yield
        return
    signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
