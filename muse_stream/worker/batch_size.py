"""How many events a batch may hold so that its transaction ends in time.

It learns how long transactions took, which of their records were acknowledged when one did not end, and for how long
the cluster holds us back. It says how many events the next batch may hold: as many as were acknowledged per second, for
`TARGET_S` seconds. When transactions are short again it doubles, up to the configured limit.

Why: a batch is written whole or not at all. Under a quota, or on a slow line, a batch of the usual size is never
acknowledged before the broker ends its transaction; it is written again and again, and each time what was written in
vain counts against the quota.

A transaction that failed with nothing acknowledged says nothing about the rate: brokers were away, most likely, and a
smaller batch would only make the way back slow.
"""

import time
from collections.abc import Callable

TARGET_S = 1.0
"""What a transaction may take: a small part of its deadline, since a quota's throttling comes in bursts."""
SHORT = 0.25
"""A full batch that took less than this part of the target may be followed by a larger one."""
CAREFUL_S = 60.0
"""For so long after the cluster held us back a batch grows slowly: a quota forgives a burst, and counts it later."""
CAREFULLY_S = 15.0
"""How long between two doublings then; longer than the 11 s over which a quota is measured."""


class BatchSize:
    """`most` is what the next batch may hold."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = self._limit = limit
        self._clock = clock
        self._changed_at = float("-inf")

    def limit(self, limit: int) -> None:
        """Take a new limit; what is known of the rate stays."""
        self.most = min(self.most, limit) if self.reduced else limit
        self._limit = limit

    @property
    def reduced(self) -> bool:
        """Whether batches are smaller than configured."""
        return self.most < self._limit

    def committed(self, events: int, cost_s: float, throttled_s_ago: float) -> None:
        """Take in what a transaction cost, from its first flush to the commit's answer."""
        if cost_s > TARGET_S:
            self._shrink(events, cost_s)
        elif self.reduced and 2 * events >= self.most and cost_s < SHORT * TARGET_S:
            wait_s = CAREFULLY_S if throttled_s_ago < CAREFUL_S else 0.0
            if self._clock() - self._changed_at >= wait_s:
                self._set(min(self._limit, 2 * self.most))

    def late(self, events: int, acknowledged: float, took_s: float) -> None:
        """Take in a transaction that was not committed in time, and which part of it was acknowledged.

        `took_s` is how long it took, and for how long the cluster goes on holding us back.
        """
        if acknowledged > 0:
            self._shrink(events * acknowledged, took_s)

    def _shrink(self, events: float, took_s: float) -> None:
        fitting = max(1, int(events * TARGET_S / took_s))
        if fitting < self.most:
            self._set(fitting)

    def _set(self, most: int) -> None:
        self.most, self._changed_at = most, self._clock()
