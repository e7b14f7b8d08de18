"""A real Kafka broker for the demo and the tests: the ladder.

`with broker() as kafka:` gives a broker whose `bootstrap` answers, from the first rung that holds:
  1. MUSE_KAFKA_BOOTSTRAP_SERVERS (or bootstrap.servers of the properties file), somebody's own cluster: used, never
     stopped;
  2. a container of MUSE_KAFKA_IMAGE (default: apache/kafka of the pinned version), when a Docker engine answers
     and has the image or can pull it;
  3. Kafka's own jars on the local JVM.

Never a substitute for Kafka, and always a word about which rung was taken and why no higher one. However the command
ends, a broker that was started here is stopped and its ports and folder are released: not by a signal handler (an
exception out of one can meet a lock that is then never released) but by a process that waits for our end.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from muse_stream import environment
from muse_stream.config import KafkaSettings
from muse_stream.errors import MuseError, Retriable
from muse_stream.extras import missing_extra
from muse_stream.kafka import client
from muse_stream.testing import probe
from muse_stream.testing.kafka_jars import Places, missing_tools, places, version
from muse_stream.testing.local_kafka import LocalKafka

PLACES: Places = places()
ADDRESS = "MUSE_KAFKA_BOOTSTRAP_SERVERS"
ANSWERS_WITHIN_S = 10.0

Say = Callable[[str], object]

if TYPE_CHECKING:
    from muse_stream.testing.container_kafka import ContainerKafka


class Broker(Protocol):
    """A broker that answers; the faults are for tests, and refused with MuseError by a broker that is not ours."""

    bootstrap: str
    rung: str

    def running(self) -> bool:
        """Whether it has not ended by itself; a broker that is not ours is taken to run."""

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
    """Somebody's own cluster, named by a variable or a properties file."""

    def __init__(self, bootstrap: str, rung: str = ADDRESS) -> None:
        self.bootstrap, self.rung = bootstrap, rung

    def running(self) -> bool:
        """Whether it is there is its owner's business."""
        return True

    def kill(self) -> None:
        """Refused: it is not ours."""
        raise MuseError(f"{self.rung} names a cluster of your own: it is never killed, paused or restarted from here")

    pause = resume = restart = kill


@contextmanager
def broker(say: Say = print, *, port: int = 0) -> Iterator[Broker]:
    """A broker that answers, from the highest rung that holds; stopped at the end if it was started here.

    `say` gets one line per decision. `port` is the one that a broker started here listens on, 0 any that is free.
    Raises NoBroker, in a few lines with what to install, when no rung holds; ConfigError for the environment.
    """
    settings = KafkaSettings.from_environment()
    if own := _own_cluster(settings, say):
        yield own
        return
    ours = _choose(settings, say, port)
    try:
        ours.start()
        say(f"kafka: {ours.rung}, {ours.bootstrap}")
        yield ours
    finally:
        ours.close()


def prepare(say: Say = print) -> None:
    """Fetch what the ladder will need (the image, or the jars), so that no test pays for it, and say which rung it is.

    Raises as `broker` does.
    """
    settings = KafkaSettings.from_environment()
    if not _own_cluster(settings, say):
        say(f"kafka: the broker will be a {_choose(settings, say).rung}")


def _choose(settings: KafkaSettings, say: Say, port: int = 0) -> "LocalKafka | ContainerKafka":
    """The broker of the highest rung that holds, not yet started; its image or jars are here."""
    if settings.security_protocol != "PLAINTEXT":
        raise NoBroker(
            f"the security protocol is set to {settings.security_protocol}, and a broker started here knows PLAINTEXT "
            f"only: unset it, or name your own cluster by {ADDRESS}"
        )
    _check_port(port)
    image = environment.read("MUSE_KAFKA_IMAGE") or f"apache/kafka:{version(PLACES)}"
    container, no_container = _container(image, say, port)
    if container:
        return container
    say(f"kafka: no container: {no_container}")
    if no_java := missing_tools():
        raise NoBroker(
            "no Kafka for demo and tests; one of these will do:\n"
            f"  {ADDRESS}=host:port  your own cluster (not set)\n"
            f"  a Docker engine with {image}  ({no_container})\n"
            f"  a JDK with Maven  ({no_java})"
        )
    return LocalKafka(PLACES, say, port=port)


def _own_cluster(settings: KafkaSettings, say: Say) -> Broker | None:
    """Somebody's own cluster, if one is named and answers."""
    if "bootstrap" not in settings.model_fields_set:
        return None
    named = ADDRESS if environment.read(ADDRESS) else f"bootstrap.servers of {settings.properties_file}"
    try:
        client.reach(settings, ANSWERS_WITHIN_S if probe.listens(settings.bootstrap, ANSWERS_WITHIN_S) else 0.1)
    except Retriable as away:
        why = str(away).partition(f"{settings.bootstrap}: ")[2]
        told = f"{named}={settings.bootstrap}: no Kafka broker answers there within {ANSWERS_WITHIN_S:.0f} s ({why})"
        raise NoBroker(f"{told}; unset it to have a broker started here") from None
    say(f"kafka: {named}, {settings.bootstrap}")
    return Cluster(settings.bootstrap, named)


def _container(image: str, say: Say, port: int) -> "tuple[ContainerKafka | None, str]":
    """A broker of the image, or None and why not."""
    try:
        from muse_stream.testing.container_kafka import ContainerKafka, unavailable  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        return None, str(missing)
    why = unavailable(image, say)
    return (None, why) if why else (ContainerKafka(PLACES, image, port), "")


def _check_port(port: int) -> None:
    with socket.socket() as probing:
        # as Kafka itself does: connections of a broker that has just ended do not count
        probing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probing.bind(("127.0.0.1", port))
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise NoBroker(f"a broker cannot listen on 127.0.0.1:{port}: {why}; choose another port") from None
