"""When to commit: the adaptive linger.

It learns what batches cost and says how long after the last batch the next one goes on collecting. An event that comes
later than that waits for no others. It is the longest of three:

  - the configured floor, which holds whatever else is known;
  - what a transaction takes, so that a batch is complete about when the last one is committed. A transaction costs per
    partition touched: were a burst over many tenants committed as often as before, no time would be left for work, the
    backlog would grow, and with it the number of partitions per transaction. At most the ceiling;
  - what is economic at a low rate, where a batch of one event takes as much of a processor as one of ten. A batch of
    `cpu` seconds every `t` seconds costs `cpu / t`; `rate` events a second wait `t / 2` on average, which costs
    `WORTH * rate * t / 2`. The sum is least at `t = sqrt(2 * cpu / (WORTH * rate))`: the formula of the economic order
    quantity (Harris, 1913). At most `ECONOMIC_S`; nothing where the floor is zero, which asks for the least latency.

docs/decisions/0017, 0063.
"""

import math
import time
from collections.abc import Callable

LEAST_S = 0.001
"""With a floor of zero the estimate must still be able to grow."""
LEAST_CPU_S = 0.0001
WORTH = 0.15
"""Seconds of a processor that are spent to spare events a second of waiting."""
ECONOMIC_S = 0.015
SPREAD, LONGEST_GAP_S = 0.05, 0.1
"""The rate is taken over about 20 batches, and a pause between two of them counts as at most so long."""


class AdaptiveLinger:
    """Exponentially weighted means of what transactions and batches cost, as a waiting time in seconds."""

    def __init__(
        self,
        floor_s: float,
        ceiling_s: float = 0.25,
        weight: float = 0.2,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        if floor_s < 0 or ceiling_s < 0 or not 0 < weight <= 1:
            raise ValueError(
                f"want floor_s >= 0, ceiling_s >= 0 and 0 < weight <= 1, got {floor_s}, {ceiling_s}, {weight}"
            )
        self._floor_s, self._ceiling_s, self._weight = floor_s, ceiling_s, weight
        self._clock, self._cpu = clock, cpu
        self._at_s, self._used_s = clock(), cpu()
        self._cost_s = 0.0
        self._batch_cpu_s, self._gap_s, self._events = 0.0, LONGEST_GAP_S, 1.0

    def floor(self, floor_s: float) -> None:
        """Take a new floor; what is known of the transactions' cost stays."""
        self._floor_s = floor_s

    def observe(self, cost_s: float, events: int = 1) -> None:
        """Take in what one transaction cost, from its first flush to the commit's answer, and its batch's events."""
        # one slow answer (a broker's pause) is no trend: it counts as at most twice what is known
        counted_s = min(cost_s, 2 * max(self._cost_s, self._floor_s, LEAST_S))
        self._cost_s += self._weight * (counted_s - self._cost_s)
        at_s, used_s = self._clock(), self._cpu()
        # a generation that is compiled meanwhile is no trend either
        cpu_s = min(used_s - self._used_s, 2 * max(self._batch_cpu_s, LEAST_CPU_S))
        self._batch_cpu_s += self._weight * (cpu_s - self._batch_cpu_s)
        self._gap_s += SPREAD * (min(at_s - self._at_s, LONGEST_GAP_S) - self._gap_s)
        self._events += SPREAD * (events - self._events)
        self._at_s, self._used_s = at_s, used_s

    @property
    def seconds(self) -> float:
        """How long after the last batch the next one collects."""
        return max(self._floor_s, min(self._cost_s, self._ceiling_s), self._economic_s)

    @property
    def _economic_s(self) -> float:
        if not self._floor_s or not self._events:
            return 0.0
        return min(math.sqrt(2 * self._batch_cpu_s * self._gap_s / (WORTH * self._events)), ECONOMIC_S)
