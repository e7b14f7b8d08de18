"""A real Kafka broker in a container, by testcontainers.

Wants a Docker engine, an image with the interface of apache/kafka (sh, /opt/kafka/bin/kafka-storage.sh and
kafka-server-start.sh) and the server.properties of `Places`. The broker is the same as on the local JVM, at the host
and port that the engine gave.

Invariant: the container is removed however this process ends: a second process waits for the end of its stdin and
removes it. The broker can be killed and restarted inside its container, because a restarted container gets another
port.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from string import Template
from typing import Any

import docker
import docker.errors
import requests
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from muse_stream.errors import MuseError
from muse_stream.testing import probe
from muse_stream.testing.kafka_jars import Places
from muse_stream.testing.kept_server import READY_WITHIN_S
from muse_stream.testing.local_kafka import CLUSTER_ID

ENGINE_WITHIN_S = 3
SILENT_S = 15
"""How long a registry may say nothing while an image is pulled."""
PULLED_WITHIN_S = 180.0

_PORT, _INTERNAL_PORT, _CONTROLLER_PORT = 9092, 9094, 9093
_HOME = "/tmp/muse"  # noqa: S108  inside the container
_HEAP = "-Xms512m -Xmx512m"
_KEEP = f"""
mkdir -p {_HOME} && cd {_HOME} || exit 1
while :; do
    while [ ! -f up ]; do sleep 0.05; done
    /opt/kafka/bin/kafka-server-start.sh {_HOME}/server.properties & echo $! >pid
    rm up; wait; rm pid
done
"""
_FORMAT = f"""
printf %s "$PROPERTIES" >{_HOME}/server.properties
/opt/kafka/bin/kafka-storage.sh format -t {CLUSTER_ID} -c {_HOME}/server.properties
"""
_KILL = f"cd {_HOME}; rm -f up; [ ! -f pid ] || kill -9 $(cat pid); while [ -f pid ]; do sleep 0.05; done"
_START = f"touch {_HOME}/up"
_STATUS = f"cd {_HOME}; [ -f up ] || [ -f pid ]"


class ContainerKafka:
    """One broker in a container; `bootstrap` answers from `start()` to `close()`, but for faults asked for.

    The engine publishes it on `port`, 0 for any that is free.
    """

    rung = "container"

    def __init__(self, places: Places, image: str, port: int = 0) -> None:
        self._properties = Template((places.files / "server.properties").read_text())
        self._container = DockerContainer(image).with_bind_ports(_PORT, port or None)
        self._container.with_env("KAFKA_HEAP_OPTS", _HEAP)
        self._container.with_kwargs(entrypoint=["sh", "-c", _KEEP])
        self._reaper: subprocess.Popen[bytes] | None = None
        self.bootstrap = ""

    def start(self) -> None:
        """Start container and broker; returns when it answers, raises MuseError with the end of its log if never."""
        try:
            self._container.start()
            self._reaper = _reaper(self._engine_container().id or "")
            host = self._container.get_container_host_ip()
            self.bootstrap = f"{host}:{self._container.get_exposed_port(_PORT)}"
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise MuseError(f"the container did not start: {error}") from None
        properties = self._properties.substitute(
            bind="0.0.0.0",  # noqa: S104  inside the container; the engine decides who can reach it
            advertised=self.bootstrap,
            port=_PORT,
            internal_port=_INTERNAL_PORT,
            controller_port=_CONTROLLER_PORT,
            data=f"{_HOME}/data",
        )
        self._shell(_FORMAT, PROPERTIES=properties)
        self.restart()

    def running(self) -> bool:
        """Whether the broker's process lives, or is about to be started."""
        return self._run(_STATUS)[0] == 0

    def kill(self) -> None:
        """End the broker as a power cut would (SIGKILL); its data stay for `restart()`."""
        self.resume()
        self._shell(_KILL)

    def pause(self) -> None:
        """Freeze the broker: connections stay open and nobody answers."""
        self._engine_container().pause()

    def resume(self) -> None:
        """Let a paused broker go on; nothing happens to one that is not paused."""
        container = self._engine_container()
        container.reload()
        if container.status == "paused":
            container.unpause()

    def restart(self) -> None:
        """Start the broker on the same address and data, killing it first if it runs; returns when it answers."""
        self.kill()
        self._shell(_START)
        deadline = time.monotonic() + READY_WITHIN_S
        while not probe.answers(self.bootstrap, 1.0):
            alive = self.running()
            if not alive or time.monotonic() > deadline:
                state = "did not answer in time" if alive else "ended at once"
                raise MuseError(f"the Kafka broker in the container {state}; the end of its log:\n{self._log_end()}")
            time.sleep(0.05)

    def close(self) -> None:
        """Remove the container; may be called twice."""
        reaper, self._reaper = self._reaper, None
        if reaper is not None:
            reaper.communicate()
        elif self._container.get_wrapped_container() is not None:
            self._container.stop()

    def _engine_container(self) -> Any:
        container = self._container.get_wrapped_container()
        if container is None:
            raise MuseError("the container with the Kafka broker was not started")
        return container

    def _run(self, script: str, **environment: str) -> tuple[int, str]:
        code, output = self._engine_container().exec_run(["sh", "-c", script], environment=environment)
        return code, output.decode(errors="replace")

    def _shell(self, script: str, **environment: str) -> None:
        code, output = self._run(script, **environment)
        if code:
            last = "\n".join(output.strip().splitlines()[-8:])
            raise MuseError(f"a command in the Kafka container ended with code {code}:\n{last}")

    def _log_end(self, lines: int = 15) -> str:
        return str(self._engine_container().logs(tail=lines).decode(errors="replace"))


def unavailable(image: str, say: Callable[[str], object] = lambda _line: None) -> str:
    """Why this rung cannot be taken with `image`, in one line; empty if it can. Pulls an image that is not local."""
    if not _engine_listens():
        return "no Docker engine answers"
    try:
        if not _have(image):
            say(f"pulling {image} (once)")
            if reason := _pull(image):
                return f"the image {image} is not here and cannot be pulled ({reason})"
        reaper = testcontainers_config.ryuk_image
        if not testcontainers_config.ryuk_disabled and not _have(reaper) and _pull(reaper):
            # our own reaper does its work; without its image testcontainers would refuse to start anything
            testcontainers_config.ryuk_disabled = True
    except (docker.errors.DockerException, requests.RequestException):
        return "no Docker engine answers"
    return ""


def _engine_listens() -> bool:
    """Asked before docker-py, which leaks its socket (a ResourceWarning) where nobody listens on it."""
    path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").partition("unix://")[2]
    with socket.socket(socket.AF_UNIX) as probing:
        return not path or probing.connect_ex(path) == 0


def _have(image: str) -> bool:
    with closing(docker.from_env(timeout=ENGINE_WITHIN_S)) as engine:
        try:
            engine.images.get(image)
        except docker.errors.ImageNotFound:
            return False
        return True


def _pull(image: str) -> str:
    """Pull within a deadline; returns what went wrong."""
    deadline, wrong = time.monotonic() + PULLED_WITHIN_S, ""
    try:
        with closing(docker.from_env(timeout=SILENT_S)) as engine:
            for line in engine.api.pull(*_name_and_tag(image), stream=True, decode=True):
                wrong = wrong or _short(line.get("error", ""))
                if time.monotonic() > deadline:
                    return f"not done in {PULLED_WITHIN_S:.0f} s"
    except docker.errors.APIError as error:
        if error.response is not None:
            error.response.close()  # a refused pull is a stream that docker leaves open
        return _short(error.explanation or error)
    except (docker.errors.DockerException, requests.RequestException) as error:
        return _short(error)
    return wrong


def _name_and_tag(image: str) -> tuple[str, str]:
    name, colon, tag = image.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (image, "latest")


def _short(error: object) -> str:
    return " ".join(str(error).split())[:120]


def _reaper(container: str) -> subprocess.Popen[bytes]:
    """The process that removes the container at the end of its stdin; out of reach of our terminal's Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "muse_stream.testing.container_kafka", container],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )


@contextmanager
def removed_with_us(container: str) -> Iterator[None]:
    """Remove a container when the block is left, or when this process ends in whatever way."""
    reaper = _reaper(container)
    try:
        yield
    finally:
        reaper.communicate()


def _reap(container: str) -> None:
    sys.stdin.read()
    with closing(docker.from_env()) as engine, suppress(docker.errors.NotFound):
        engine.containers.get(container).remove(force=True, v=True)


if __name__ == "__main__":
    _reap(sys.argv[1])
