"""How long a quota of the cluster holds our requests back.

A broker that a client asks too much of answers at once, says for how long it will read nothing more from that
connection, and keeps to it: the end of a transaction on its way there waits as well. librdkafka reports it. What any of
a slot's clients was told last of a broker holds for all, since quotas count per user and client id, not per connection.
"""

import time
from collections.abc import Callable

from confluent_kafka import ThrottleEvent


class Throttle:
    """What was reported last; any thread may tell and ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[int, float] = {}
        self._at = float("-inf")

    def __call__(self, event: ThrottleEvent) -> None:
        """Take a report of librdkafka; one of 0 s ends it."""
        now = self._clock()
        self._until[event.broker_id] = now + event.throttle_time
        if event.throttle_time > 0:
            self._at = now

    @property
    def left_s(self) -> float:
        """For how long a broker reads nothing more from us."""
        return max(0.0, max(list(self._until.values()), default=0.0) - self._clock())

    @property
    def since_s(self) -> float:
        """How long ago we were held back last; infinite when never."""
        return self._clock() - self._at
