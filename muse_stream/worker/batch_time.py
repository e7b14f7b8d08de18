"""How many events a batch may hold so that no other tenant waits long for it.

An event that comes while a batch is at work waits for it, is scored with the next one, and waits for that one too. So
while one tenant drains a backlog, what the others wait is two to three times what a full batch takes: it must not
depend on how fast the machine or how dear a model is. It learns what the last batch took for each event, and says how
many fit into the time that a batch may take.

That time is `TARGET_S`, or half of what a transaction takes where that is longer: two are under way at a time, and
smaller batches would only wait for them. docs/decisions/0064.
"""

from typing import Final

TARGET_S: Final = 0.05
"""What a batch may take to be decoded, scored and encoded. What each costs once, 3 to 5 ms, is a small part of it."""
LEAST: Final = 10


class BatchTime:
    """Takes in what batches took; `most` is what the next one may hold."""

    def __init__(self, target_s: float = TARGET_S) -> None:
        self._target_s = target_s
        self._events, self._seconds = 1, 0.0
        self._most: float = float("inf")

    def scored(self, events: int, seconds: float) -> None:
        """Take in how long a batch took."""
        self._events, self._seconds = events, seconds

    def most(self, transaction_s: float) -> float:
        """Return how many events the next batch may hold; `transaction_s` is what a transaction takes now.

        At most half less than before: one slow batch (a pause of the machine) is no trend. There is no such bound on
        more: what a batch costs once makes small ones look dear, and a burst after them needs large ones at once.
        """
        if self._seconds > 0:
            fitting = self._events * max(self._target_s, transaction_s / 2) / self._seconds
            self._most = max(fitting, self._most / 2 if self._most < float("inf") else fitting, LEAST)
            self._seconds = 0.0
        return self._most
