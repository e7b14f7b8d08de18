"""What a trace says of an event: whose it is, its intent, which predictors have answered it.

Never a feature, an id, a key or a score: a trace goes to people who may not see the events.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from muse_stream.runtime.event_reader import Events
from muse_stream.scoring import Categorical, PredictorScores, Scored

Fact = str | int | Sequence[str]


def event_facts(events: Events, scored: Scored, rows: Sequence[int]) -> Mapping[int, Mapping[str, Fact]]:
    """Return what to say of rows of the batch, ascending; nothing of those that could not be read."""
    asked = np.array(rows, dtype=np.int64)
    asked = asked[np.isin(asked, events.rows)]
    of_table = np.searchsorted(events.rows, asked)
    facts: list[dict[str, Fact]] = [dict(_strings(events, int(row))) for row in of_table]
    for one in scored.live:
        for place in _answered(one, of_table):
            facts[place] |= {"muse.predictor": one.predictor, "muse.predictor.version": one.version}
    shadows: dict[int, list[str]] = {}
    for one in scored.shadow:
        for place in _answered(one, of_table):
            shadows.setdefault(place, []).append(one.predictor)
    for place, names in shadows.items():
        facts[place]["muse.shadow_predictors"] = names
    return dict(zip(asked.tolist(), facts, strict=True))


def _answered(one: PredictorScores, rows: NDArray[np.int64]) -> list[int]:
    """Return the places in `rows` that a predictor has answered."""
    return np.flatnonzero(np.isin(rows, one.rows)).tolist() if len(one.rows) else []


def _strings(events: Events, row: int) -> Iterator[tuple[str, str]]:
    named = {"muse.tenant": events.tenant, **{f"muse.intent.{name}": one for name, one in events.intent.items()}}
    for name, column in named.items():
        if (text := _string(column, row)) is not None:
            yield name, text


def _string(column: Categorical, row: int) -> str | None:
    code = int(column.codes[row])
    return None if code < 0 else column.values[code]
