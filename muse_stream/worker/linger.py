"""When to commit: the adaptive linger.

It learns how long each transaction took and says how long after the last batch the next one goes on collecting. An
event that comes later than that waits for no others. The linger is the configured floor while transactions are cheap,
and follows their measured cost above it, so that a batch is complete about when the last one is committed. It grows up
to the ceiling and no further; a floor above the ceiling is what was asked for, and holds.

Why: a transaction costs per partition touched. A burst over many tenants makes each dearer; committing as often as
before would leave no time for work, the backlog would grow, and with it the number of partitions per transaction.
"""

LEAST_S = 0.001
"""With a floor of zero the estimate must still be able to grow."""


class AdaptiveLinger:
    """An exponentially weighted mean of the transactions' cost, as a waiting time in seconds."""

    def __init__(self, floor_s: float, ceiling_s: float = 0.25, weight: float = 0.2) -> None:
        if floor_s < 0 or ceiling_s < 0 or not 0 < weight <= 1:
            raise ValueError(
                f"want floor_s >= 0, ceiling_s >= 0 and 0 < weight <= 1, got {floor_s}, {ceiling_s}, {weight}"
            )
        self._floor_s, self._ceiling_s, self._weight = floor_s, ceiling_s, weight
        self._cost_s = 0.0

    def floor(self, floor_s: float) -> None:
        """Take a new floor; what is known of the transactions' cost stays."""
        self._floor_s = floor_s

    def observe(self, cost_s: float) -> None:
        """Take in what one transaction cost, from its first flush to the commit's answer."""
        # one slow answer (a broker's pause) is no trend: it counts as at most twice what is known
        counted_s = min(cost_s, 2 * max(self._cost_s, self._floor_s, LEAST_S))
        self._cost_s += self._weight * (counted_s - self._cost_s)

    @property
    def seconds(self) -> float:
        """How long after the last batch the next one collects."""
        return max(self._floor_s, min(self._cost_s, self._ceiling_s))
