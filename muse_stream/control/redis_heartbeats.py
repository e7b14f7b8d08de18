"""Heartbeats in a Redis: a key for each worker that ends by itself, and a set of their names.

    muse:heartbeat:at:NAME    a worker's record, with a time to live
    muse:heartbeat:names      who has one; a name whose record has ended is taken out

The set stands for a listing of keys, which would show a worker's user the keys of all who share the Redis. Ages are by
Redis's clock: what is left of a time to live.
"""

import time
from typing import Any

from muse_stream.control.heartbeats import GONE_S, Beat

SWEEP_S = 60.0
MOST = 10_000


class RedisHeartbeats:
    """The heartbeats under `prefix`; raises what redis-py raises."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._client, self._prefix = client, f"{prefix}:heartbeat:"
        self._swept = 0.0

    def write(self, name: str, data: bytes) -> None:
        """Keep a heartbeat."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.set(self._key(name), data, px=int(GONE_S * 1000))
            pipe.sadd(self._names, name)
            pipe.expire(self._names, int(GONE_S * 2))
            pipe.execute()
        if time.monotonic() - self._swept > SWEEP_S:
            self._swept = time.monotonic()
            self._sweep()

    def remove(self, name: str) -> None:
        """Take a heartbeat away."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.delete(self._key(name))
            pipe.srem(self._names, name)
            pipe.execute()

    def read(self) -> tuple[Beat, ...]:
        """Return the heartbeats that there are."""
        names = self._listed()
        with self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.get(self._key(name))
                pipe.pttl(self._key(name))
            answers = iter(pipe.execute())
        found = []
        for name, data, left_ms in zip(names, answers, answers, strict=True):
            if isinstance(data, bytes):
                found.append(Beat(name, data, max(0.0, GONE_S - left_ms / 1000) if left_ms >= 0 else GONE_S))
        return tuple(found)

    @property
    def _names(self) -> str:
        return f"{self._prefix}names"

    def _key(self, name: str) -> str:
        return f"{self._prefix}at:{name}"

    def _listed(self) -> list[str]:
        names = self._client.smembers(self._names)
        return sorted(name.decode(errors="replace") for name in names)[:MOST]

    def _sweep(self) -> None:
        alive = {beat.name for beat in self.read()}
        if gone := [name for name in self._listed() if name not in alive]:
            self._client.srem(self._names, *gone)
