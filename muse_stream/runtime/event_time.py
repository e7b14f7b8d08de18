"""When an event happened: what its field says, within the years that its format allows, or else Kafka's timestamp.

A time far out is a mistake of units (microseconds read as milliseconds are the year 58,000), and a score record that
carried it could not be read in most languages.
"""

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import NO_TIME, Decoded
from muse_stream.config import EventSpec
from muse_stream.errors import Reason, Rejected, Stage
from muse_stream.worker import Batch

LAST_YEAR = 9999
"""Of a timestamp that Python's datetime, hence fastavro, can hold."""
EPOCH_YEAR = 1970

Times = NDArray[np.int64]


class EventTimes:
    """Finds the times of one format's events."""

    def __init__(self, name: str, spec: EventSpec) -> None:
        """`name`: the format, for messages."""
        self._name, self._spec = name, spec
        first, last = spec.time_range
        self._low, self._high, self._end = (_start(year) for year in (first, last + 1, LAST_YEAR + 1))

    @property
    def allowed(self) -> int:
        """A time that is allowed, in nanoseconds since 1970; if it may be, one that an int of seconds can hold."""
        return min(max(_start(2001), self._low), self._high - 1) * 1_000_000

    def of(self, decoded: Decoded, batch: Batch) -> tuple[Times, dict[int, Rejected]]:
        """Return the milliseconds of each decoded event, and the events refused, by row of the batch."""
        if decoded.times is None:
            return self._stamps(decoded, batch, np.full(len(decoded.rows), NO_TIME), {})
        times = decoded.times
        if not len(times) or (times.min() >= self._low and times.max() < self._high):
            return times, {}
        outside = (times != NO_TIME) & ((times < self._low) | (times >= self._high))
        faults: dict[int, Rejected] = {}
        if self._spec.time_outside == "dead_letter":
            faults = {int(decoded.rows[at]): self._fault(decoded, at) for at in np.flatnonzero(outside).tolist()}
        else:
            times = np.where(outside, NO_TIME, times)
        return self._stamps(decoded, batch, times, faults)

    def _stamps(
        self, decoded: Decoded, batch: Batch, times: Times, faults: dict[int, Rejected]
    ) -> tuple[Times, dict[int, Rejected]]:
        """Put Kafka's timestamps where there is no time."""
        without = times == NO_TIME
        if not without.any():
            return times, faults
        stamps = np.array(batch.timestamps(), dtype=np.int64)[decoded.rows]
        for at in np.flatnonzero(without & (stamps >= self._end)).tolist():
            row = int(decoded.rows[at])
            message = f"Kafka's timestamp, {stamps[at]} ms since 1970, is in the year {_year(int(stamps[at]))}"
            faults[row] = Rejected(row, Reason.TIME_OUT_OF_RANGE, Stage.VALIDATE, message)
        return np.where(without, stamps, times), faults

    def _fault(self, decoded: Decoded, at: int) -> Rejected:
        assert decoded.times is not None  # noqa: S101  # only called where there are times
        value = int(decoded.times[at])
        first, last = self._spec.time_range
        taken = f"events.{self._name}.time_range takes {first} to {last}"
        message = f"{self._spec.time} is in the year {_year(value)}; {taken}"  # no values: messages are logged
        return Rejected(int(decoded.rows[at]), Reason.TIME_OUT_OF_RANGE, Stage.VALIDATE, message)


def _start(year: int) -> int:
    """Return the first millisecond of a year, in UTC."""
    return int(np.datetime64(year - EPOCH_YEAR, "Y").astype("datetime64[ms]").astype(np.int64))


def _year(ms: int) -> int:
    return EPOCH_YEAR + int(np.datetime64(ms, "ms").astype("datetime64[Y]").astype(np.int64))
