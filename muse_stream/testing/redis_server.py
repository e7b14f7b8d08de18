"""A real Redis for the demo and the tests: the ladder.

`with redis_server() as redis:` gives a Redis whose `url` answers, from the first rung that holds:
  1. MUSE_REDIS_URL, somebody's own: used, never stopped;
  2. a container of MUSE_REDIS_IMAGE (default: redis:7), when a Docker engine answers and has the image or can pull it;
  3. `redis-server` of this machine (Debian's package of this name), on a free port.

However the command ends, a Redis that was started here is gone with it: a small process waits for our end (`keeper`).
Tests that break a Redis, or need its users, certificates or files, start a `LocalRedis` themselves.
"""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from muse_stream import environment
from muse_stream.errors import MuseError
from muse_stream.extras import missing_extra
from muse_stream.testing.kafka_jars import places
from muse_stream.testing.kept_server import KeptServer
from muse_stream.testing.local_kafka import claim_run, free_ports, run_folders

VARIABLE = "MUSE_REDIS_URL"
IMAGE = "redis:7"
PACKAGE = "apt-get install -y redis-server"
PERSISTENT = ("--appendonly", "yes", "--appendfsync", "always")
"""What a store needs: an answered write survives a crash."""

Say = Callable[[str], object]


class Redis(Protocol):
    """A Redis that answers."""

    url: str
    rung: str


class NoRedis(MuseError):
    """No rung of the ladder holds on this machine; the text says for each what it lacks."""


class OwnRedis:
    """Somebody's own Redis, named by a variable."""

    def __init__(self, url: str, rung: str = VARIABLE) -> None:
        self.url, self.rung = url, rung


class LocalRedis(KeptServer):
    """A `redis-server` of this machine; `url` answers from `start()` to `close()`, but for faults asked for.

    `options` are further arguments of redis-server, over those that make it keep its data.
    """

    rung = "local redis-server"
    called = "the local Redis"
    ready_within_s = 60.0

    def __init__(self, *options: str) -> None:
        if lacking := missing_server():
            raise NoRedis(lacking)
        super().__init__()
        self._options = options
        self.port = 0
        self.url = ""

    @property
    def folder(self) -> Path:
        """Where it runs."""
        return self._run

    def _prepare(self) -> None:
        (self.port,) = free_ports(1)
        self.url = f"redis://127.0.0.1:{self.port}"
        run, lock = claim_run(run_folders(places().cache.with_name("redis")))
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(run)]
        self._keep(run, lock, [*command, *PERSISTENT, *self._options])

    def launch(self) -> None:
        """Start its process, killing it first if it runs; `await_answer` comes next."""
        self.log.unlink(missing_ok=True)
        super().launch()

    def _answers(self) -> bool:
        return self.said("Ready to accept connections") > 0


@contextmanager
def redis_server(say: Say = print) -> Iterator[Redis]:
    """A Redis that answers, from the highest rung that holds; stopped at the end if it was started here.

    `say` gets one line per decision. Raises NoRedis, with what to install, when no rung holds.
    """
    if own := environment.read(VARIABLE):
        _check_own(own)
        say(f"redis: {VARIABLE}")
        yield OwnRedis(own)
        return
    image = environment.read("MUSE_REDIS_IMAGE") or IMAGE
    no_container = _no_container(image, say)
    if not no_container:
        from muse_stream.testing.container_redis import container_redis  # noqa: PLC0415 - an extra

        with container_redis(image) as redis:
            say(f"redis: {redis.rung}, {redis.url}")
            yield redis
        return
    say(f"redis: no container: {no_container}")
    if lacking := missing_server():
        raise NoRedis(
            "no Redis for demo and tests; one of these will do:\n"
            f"  {VARIABLE}=redis://host:port  your own (not set)\n"
            f"  a Docker engine with {image}  ({no_container})\n"
            f"  redis-server  ({lacking})"
        )
    with LocalRedis() as redis:
        say(f"redis: {redis.rung}, {redis.url}")
        yield redis


def remove_keys(server: Redis, prefix: str) -> None:
    """Give somebody's own Redis back as it was; one that was started here ends with its data anyway."""
    if server.rung != VARIABLE:
        return
    import redis  # noqa: PLC0415 - an extra

    client = redis.Redis.from_url(server.url)
    for key in client.scan_iter(f"{prefix}:*"):
        client.delete(key)
    client.close()


def prepare_redis(say: Say = print) -> None:
    """See which rung holds, fetching an image where that is needed, and say it. Raises as `redis_server` does."""
    with redis_server(say):
        pass


def missing_server() -> str:
    """What the last rung lacks on this machine, with the command that installs it; empty if nothing."""
    return "" if shutil.which("redis-server") else f"redis-server not found: {PACKAGE}"


def _check_own(url: str) -> None:
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 6379), timeout=5):
            pass
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise NoRedis(f"{VARIABLE}: nothing answers there ({why}); unset it to have a Redis started here") from None


def _no_container(image: str, say: Say) -> str:
    try:
        from muse_stream.testing.container_kafka import unavailable  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        return str(missing)
    return unavailable(image, say)
