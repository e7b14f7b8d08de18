"""Sliding windows over irregular times, as the Fraud Detection Handbook defines its features.

Keys (customer or terminal), times and values, sorted by time, give counts, means and risks over 1, 7 and 30 days. No
loop runs over events. A customer's window ends with the event itself; a terminal's risk looks only at events older than
DELAY_DAYS, because that long it takes until a fraud is known. Source: Le Borgne et al., Reproducible Machine Learning
for Credit Card Fraud Detection, chapter 3, "Baseline feature transformation".
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
WINDOW_DAYS = (1, 7, 30)
DELAY_DAYS = 7
HISTORY_DAYS = max(WINDOW_DAYS) + DELAY_DAYS
"""Past that must be there for the first event's windows to be full."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Number = TypeVar("Number", np.int64, np.float64)


class Timeline:
    """Events grouped by key, each group in order of time; window sums in O(log n) per event."""

    def __init__(self, key: Ints, time_ms: Ints) -> None:
        self._order = np.lexsort((time_ms, key))
        # One sorted number line for all keys; the gap between two keys is longer than any look back.
        since = time_ms - time_ms.min(initial=0)
        gap = since.max(initial=0) + (HISTORY_DAYS + 1) * DAY_MS
        self._line = (key * gap + since)[self._order]

    def counts(self, days: int, delay_days: int = 0) -> Ints:
        """Events in `(t - delay - days, t - delay]` for each event at t."""
        low, high = self._bounds(days, delay_days)
        return self._restored(high - low)

    def sums(self, values: Floats, days: int, delay_days: int = 0) -> Floats:
        """Sum of `values` over the same events."""
        low, high = self._bounds(days, delay_days)
        total = np.concatenate([[0.0], np.cumsum(values[self._order])])
        return self._restored(total[high] - total[low])

    def _bounds(self, days: int, delay_days: int) -> tuple[Ints, Ints]:
        end = self._line - delay_days * DAY_MS
        low = np.searchsorted(self._line, end - days * DAY_MS, side="right")
        return low, np.searchsorted(self._line, end, side="right")

    def _restored(self, values: NDArray[Number]) -> NDArray[Number]:
        result = np.empty_like(values)
        result[self._order] = values
        return result


def customer_windows(customer: Ints, time_ms: Ints, amount: Floats) -> dict[str, Ints | Floats]:
    """Number of purchases and mean amount of the customer, the event included."""
    line = Timeline(customer, time_ms)
    columns: dict[str, Ints | Floats] = {}
    for days in WINDOW_DAYS:
        count = line.counts(days)
        columns[f"customer_nb_tx_{days}d"] = count
        columns[f"customer_avg_amount_{days}d"] = np.round(line.sums(amount, days) / count, 4)
    return columns


def terminal_windows(terminal: Ints, time_ms: Ints, fraud: NDArray[np.bool_]) -> dict[str, Ints | Floats]:
    """Number of purchases at the terminal and their share of fraud, seen with the delay; no purchases: risk 0."""
    line = Timeline(terminal, time_ms)
    columns: dict[str, Ints | Floats] = {}
    for days in WINDOW_DAYS:
        count = line.counts(days, DELAY_DAYS)
        columns[f"terminal_nb_tx_{days}d"] = count
        known = np.round(line.sums(fraud.astype(np.float64), days, DELAY_DAYS))
        columns[f"terminal_risk_{days}d"] = known / np.maximum(count, 1)
    return columns
