"""A real Kafka broker for the demo and the tests: the ladder.

In: the environment. Out: `with broker() as kafka:` a broker whose `bootstrap` answers, from the first rung that holds:
  1. MUSE_KAFKA_BOOTSTRAP, somebody's own cluster: used, never stopped;
  2. a container of MUSE_KAFKA_IMAGE (default: apache/kafka of the pinned version), when a Docker engine answers
     and has the image or can pull it;
  3. Kafka's own jars on the local JVM.
Law: never a substitute for Kafka, and always a word about which rung was taken and why no higher one. However the
command ends, a broker that was started here is stopped and its ports and folder are released: not by a signal handler
(an exception out of one can meet a lock that is then never released) but by a process that waits for our end.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from muse_stream.demo.container_kafka import ContainerKafka, unavailable
from muse_stream.demo.kafka_jars import missing_tools, version
from muse_stream.demo.local_kafka import LocalKafka
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
    ours = _choose(say)
    try:
        ours.start()
        say(f"kafka: {ours.rung}, {ours.bootstrap}")
        yield ours
    finally:
        ours.close()


def prepare(say: Say = print) -> None:
    """Fetch what the ladder will need (the image, or the jars), so that no test pays for it, and say which rung it is.

    Raises NoBroker, in a few lines with what to install, when no rung holds.
    """
    if bootstrap := os.environ.get("MUSE_KAFKA_BOOTSTRAP", "").strip():
        _own_cluster(bootstrap, say)
        return
    chosen = _choose(say)
    say(f"kafka: the broker will be a {chosen.rung}")


def _choose(say: Say) -> LocalKafka | ContainerKafka:
    """The broker of the highest rung that holds, not yet started; its image or jars are here."""
    _check_checkout()
    image = os.environ.get("MUSE_KAFKA_IMAGE") or f"apache/kafka:{version(PROJECT)}"
    if not (no_container := unavailable(image, say)):
        return ContainerKafka(PROJECT, image)
    say(f"kafka: no container: {no_container}")
    if no_java := missing_tools():
        raise NoBroker(
            "no Kafka for demo and tests; one of these will do:\n"
            "  MUSE_KAFKA_BOOTSTRAP=host:port  your own cluster (not set)\n"
            f"  a Docker engine with {image}  ({no_container})\n"
            f"  a JDK with Maven  ({no_java})"
        )
    return LocalKafka(PROJECT, say)


def _own_cluster(bootstrap: str, say: Say) -> Broker:
    secured = client.connection(KafkaSettings.from_environment())
    if not probe.answers(bootstrap, 10.0, secured):
        raise NoBroker(f"MUSE_KAFKA_BOOTSTRAP={bootstrap}: no Kafka broker answers there within 10 s")
    say(f"kafka: {Cluster.rung}, {bootstrap}")
    return Cluster(bootstrap)


def _check_checkout() -> None:
    if not (PROJECT / "deploy/kafka/pom.xml").exists():
        raise NoBroker("deploy/kafka is not beside the package: run from a clone, or set MUSE_KAFKA_BOOTSTRAP")


if __name__ == "__main__":
    try:
        prepare()
    except MuseError as refused:
        sys.exit(str(refused))
