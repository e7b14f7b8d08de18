"""What became of every event, as it comes in from the topics: which generation answered, and what.

Decoded score and audit records become arrays over the rows of the stream. An event is found by its id, by binary search
over all ids; a million events take 100 MB and no Python object each. Counting is the task of `verify`; here the last
record of an event wins.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import Decoded, fixed_width
from muse_stream.demo.scenario import StreamEvents

NONE = 0
"""Generation of an event that was not answered yet."""
LIVE_COLUMNS = ("generation", "scored_at", "score", "aggregate")
AUDIT_COLUMNS = ("generation", "predictor", "score", "aggregate", "live_score", "live_aggregate")

Floats = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class LedgerAnswers:
    """One predictor's answers; every array is `[rows]`."""

    generation: NDArray[np.int32]
    score: Floats
    aggregate: Floats
    """Before the quantile map."""
    live_score: Floats
    """What an audit record says the live answer was; NaN in live answers themselves."""
    live_aggregate: Floats

    @classmethod
    def of(cls, rows: int) -> "LedgerAnswers":
        """Make room for so many events."""
        return cls(np.full(rows, NONE, np.int32), *(np.full(rows, np.nan) for _ in range(4)))

    def where(self, generation: int) -> NDArray[np.bool_]:
        """Return which events this generation answered."""
        return np.equal(self.generation, generation)


@dataclass(slots=True)
class Counts:
    """What has come in so far, by generation."""

    live: dict[int, int] = field(default_factory=dict)
    audit: dict[tuple[int, str], int] = field(default_factory=dict)
    """By generation and shadow predictor."""
    dead_letters: int = 0
    strangers: int = 0
    """Answers to ids that were never streamed."""
    undecodable: int = 0

    @property
    def scores(self) -> int:
        """All live scores."""
        return sum(self.live.values())

    @property
    def audits(self) -> int:
        """All audit records."""
        return sum(self.audit.values())


class Ledger:
    """Written by one thread, the follower; read by the stages when a window is complete."""

    def __init__(self, events: StreamEvents) -> None:
        self._order = np.argsort(events.ids, kind="stable")
        self._sorted = events.ids[self._order]
        self._rows = len(events)
        self.live = LedgerAnswers.of(self._rows)
        self.shadows: dict[str, LedgerAnswers] = {}
        self.counts = Counts()
        self.scored_at: dict[int, list[NDArray[np.int64]]] = {}
        """Generation -> the distinct times (ms) at which its live batches were scored, as they came in."""

    def shadow(self, predictor: str) -> LedgerAnswers:
        """Return the answers of a shadow predictor, none if it never shadowed."""
        return self.shadows.get(predictor) or LedgerAnswers.of(self._rows)

    def scores(self, decoded: Decoded) -> None:
        """Enter live scores."""
        rows, known = self._found(decoded)
        generation, scored_at, score, aggregate = (_numbers(decoded, name) for name in LIVE_COLUMNS)
        self.live.score[rows], self.live.aggregate[rows] = score[known], aggregate[known]
        self.live.generation[rows] = generation[known]
        for number in np.unique(generation).astype(int).tolist():
            own = generation == number
            self.counts.live[number] = self.counts.live.get(number, 0) + int(own.sum())
            self.scored_at.setdefault(number, []).append(np.unique(scored_at[own].astype(np.int64)))

    def audits(self, decoded: Decoded) -> None:
        """Enter audit records."""
        rows, known = self._found(decoded)
        columns = {name: _numbers(decoded, name)[known] for name in AUDIT_COLUMNS if name != "predictor"}
        predictor = decoded.columns["predictor"]
        assert not isinstance(predictor, np.ndarray)  # noqa: S101  # a string in audit.avsc
        codes = predictor.codes[known]
        for code in np.unique(codes).tolist():
            name = predictor.values[code] or ""
            own = codes == code
            answers = self.shadows.setdefault(name, LedgerAnswers.of(self._rows))
            for column, values in columns.items():
                getattr(answers, column)[rows[own]] = values[own]
            numbers, counts = np.unique(columns["generation"][own], return_counts=True)
            for number, count in zip(numbers.astype(int).tolist(), counts.tolist(), strict=True):
                self.counts.audit[number, name] = self.counts.audit.get((number, name), 0) + count

    def _found(self, decoded: Decoded) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows of the events that were streamed, and which records those are."""
        ids = fixed_width(decoded.ids)
        at = np.minimum(np.searchsorted(self._sorted, ids), self._rows - 1)
        known = self._sorted[at] == ids
        self.counts.strangers += int((~known).sum())
        self.counts.undecodable += len(decoded.rejected)
        return self._order[at[known]], known


def _numbers(decoded: Decoded, name: str) -> Floats:
    column = decoded.columns[name]
    assert isinstance(column, np.ndarray)  # noqa: S101  # a number in score.avsc and audit.avsc
    return np.asarray(column, dtype=np.float64)
