"""A real Redis in a container, by testcontainers: a rung of the ladder in `redis_server`.

Not tried on the machine it was written on, which has no Docker engine; the reaper is that of `container_kafka`.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import docker.errors
import requests
from testcontainers.core.container import DockerContainer

from muse_stream.errors import MuseError
from muse_stream.testing.container_kafka import removed_with_us
from muse_stream.testing.redis_server import PERSISTENT, OwnRedis

PORT = 6379


@contextmanager
def container_redis(image: str) -> Iterator[OwnRedis]:
    """A Redis of this image, removed at the end, however this process ends."""
    container = DockerContainer(image).with_exposed_ports(PORT)
    container.with_command(["redis-server", *PERSISTENT])
    try:
        container.start()
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise MuseError(f"the container did not start: {error}") from None
    wrapped = container.get_wrapped_container()
    with removed_with_us(str(wrapped.id)):
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}"
        yield OwnRedis(url, "container")
