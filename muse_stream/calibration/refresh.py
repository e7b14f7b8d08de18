"""A quantile map fitted anew to recent counts: to which days, what makes them unfit, and how far the map would move.

Takes the counts of one tenant and predictor content; gives the days since a change, what is wrong with them, and for
each promised threshold how far the new map moves its alert rate. Pure. docs/refresh.md says what is decided by it.

How far a map moves is measured on the distribution that the old map was fitted to, and not on the events of the window:
whoever floods a stream decides what the window holds, and not what the old map was fitted to. The event that just
reaches a threshold under the new map had some score under the old one, and the reference says how many events reach
that score. If everybody else has not changed, that is their alert rate under the new map.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
from msgspec import Struct

from muse_stream.calibration.day_counts import CELLS, GROUPS, DayCounts, Integers
from muse_stream.calibration.drift_evidence import design_effect
from muse_stream.calibration.evidence import interval
from muse_stream.calibration.quantile_map import QuantileMap
from muse_stream.calibration.score_sketch import ScoreSketch

BEFORE: Final = 0.1
"""A day may have so much of its events before the change and still count as a day since then."""
HOUR: Final = CELLS // 24
"""Cells of counts in an hour."""
CELL_S: Final = 86_400 // CELLS
MISSED: Final = 50
"""A silence is a gap where so many events would have come in it."""
MOST_OF_ONE_HOUR: Final = 0.25
"""Share of a window of a day or more."""


class Incident(Struct, frozen=True):
    """Why no map is fitted to a window."""

    kind: str
    """For machines: evidence, entity, gap, burst, dead_letters, lag, counting, paused, watch, promotion, ties."""
    text: str


class RateMove(Struct, frozen=True):
    """One threshold of a map that takes another's place."""

    threshold: float
    promised: float
    before: float
    """The score that the old map gives where the new one gives the threshold."""
    rate: float
    """The alert rate that the new map gives on the distribution that the old one was fitted to."""

    @property
    def move(self) -> float:
        """How far that is from the promise, as a share of it, with its sign."""
        return self.rate / self.promised - 1.0


def moves(old: QuantileMap, new: QuantileMap, promised: Mapping[float, float]) -> tuple[RateMove, ...]:
    """Return how far `new` moves the alert rate at each promised threshold, had the events stayed those of `old`."""
    x, y = new.knots
    found = []
    for threshold, rate in promised.items():
        at = int(np.searchsorted(y, threshold, side="left"))
        if at == len(y):
            before = 1.0  # no event reaches it any more
            after = 0.0
        else:
            share = (threshold - y[at - 1]) / (y[at] - y[at - 1]) if at else 0.0
            reached = x[at - 1] + share * (x[at] - x[at - 1]) if at else x[0]
            before = float(old.apply(reached))
            after = float(old.reference.alert_rate(before))
        found.append(RateMove(threshold, rate, before, after))
    return tuple(found)


def largest(found: Sequence[RateMove]) -> float:
    """Return the largest move, either way; 0 of none."""
    return max((abs(one.move) for one in found), default=0.0)


def days_since(days: Sequence[DayCounts], map_id: str, events: int, first_day: str) -> tuple[DayCounts, ...]:
    """Return the days, from `first_day` on, that lie behind the last `events` events that a map has served.

    `days` in order. A day that the change falls into counts where nearly all of its events came after it.
    """
    left, begins, cell = events, "", 0
    for day in reversed(days):
        served = day.maps.get(map_id)
        if served is None or left <= 0:
            continue
        behind = np.cumsum(served.cells[::-1, 0])[::-1]
        begins = day.day
        cell = int(np.flatnonzero(behind >= left)[-1]) if behind[0] >= left else 0
        left -= int(behind[0])
    found = [one for one in days if one.day >= max(begins, first_day) and one.events]
    if found and found[0].day == begins and cell:
        hours = by_cell(found[0])
        if found[0].events - int(hours[cell:].sum()) > BEFORE * found[0].events:
            found = found[1:]
    return tuple(found)


def by_cell(day: DayCounts) -> Integers:
    """Return the events of each quarter of an hour, of all maps that served."""
    return sum((one.cells[:, 0] for one in day.maps.values()), np.zeros(CELLS, dtype=np.int64))


class RefreshWindow(Struct, frozen=True, eq=False):
    """The events that a map is fitted to, in time."""

    begins: datetime
    cells: Integers
    """Events of each quarter of an hour, from the first one with events to the last."""
    events: int

    @property
    def ends(self) -> datetime:
        """When the last quarter of an hour is over."""
        return self.begins + timedelta(seconds=CELL_S * len(self.cells))

    @property
    def hours(self) -> float:
        """How long it is."""
        return len(self.cells) * CELL_S / 3600

    def by_hour(self) -> Integers:
        """Return the events of each hour since it begins."""
        padded = np.pad(self.cells, (0, -len(self.cells) % HOUR))
        return np.asarray(padded.reshape(-1, HOUR).sum(axis=1), dtype=np.int64)


def refresh_window(days: Sequence[DayCounts]) -> RefreshWindow | None:
    """Return what these days hold; None where they hold nothing of which the time is known."""
    if not days:
        return None
    first = datetime.fromisoformat(days[0].day).replace(tzinfo=UTC)
    last = datetime.fromisoformat(days[-1].day).replace(tzinfo=UTC)
    cells = np.zeros(((last - first).days + 1) * CELLS, dtype=np.int64)
    for day in days:
        at = (datetime.fromisoformat(day.day).replace(tzinfo=UTC) - first).days * CELLS
        cells[at : at + CELLS] += by_cell(day)
    held = np.flatnonzero(cells)
    if not len(held):
        return None
    begins = first + timedelta(seconds=CELL_S * int(held[0]))
    return RefreshWindow(begins, cells[held[0] : held[-1] + 1], sum(one.events for one in days))


def window_rates(
    days: Sequence[DayCounts], sketch: ScoreSketch, served: QuantileMap, map_id: str, thresholds: Sequence[float]
) -> list[tuple[float, float, float]]:
    """Return the alert rate of the days' events under a map at each threshold, with its 95 % interval.

    `sketch`: of these days; `map_id`: of the map, whose own alerts tell the design effect.
    """
    counted = [day.maps[map_id].groups for day in days if map_id in day.maps]
    groups = sum(counted, np.zeros((GROUPS, 1 + len(thresholds)), dtype=np.int64))
    found = []
    for at, rate in enumerate(sketch.alert_rates(served, thresholds).tolist()):
        effect = design_effect(groups[:, 0], groups[:, 1 + at])
        found.append((rate, *interval(min(rate, 1.0), sketch.events / effect)))
    return found


def entity_share(days: Sequence[DayCounts]) -> float:
    """Return the share of events of the largest entity, as far as the groups of entities tell.

    Of the largest group what is above the mean of the others: the entities beside it in its group are as many there.
    Events without a key are of nobody and lie in all groups alike.
    """
    groups = sum((one.groups for one in days), np.zeros(GROUPS, dtype=np.int64))
    total, top = int(groups.sum()), int(groups.max())
    return max(top - (total - top) / (GROUPS - 1), 0.0) / max(total, 1)


def incidents(days: Sequence[DayCounts], found: RefreshWindow, most_of_one_entity: float) -> list[Incident]:
    """Return what the counts themselves say against fitting a map to these days."""
    told = []
    share = entity_share(days)
    if share > most_of_one_entity:
        text = f"one entity makes up {share:.0%} of the window; at most {most_of_one_entity:.0%} may be of one"
        told.append(Incident("entity", text))
    held = np.flatnonzero(found.cells)
    silence = int(np.diff(held).max(initial=1)) - 1
    cells = len(found.cells)
    if silence >= min(CELLS, cells / 4) and found.events * silence >= MISSED * cells:
        at = int(np.argmax(np.diff(held)))
        since, until = (found.begins + timedelta(seconds=CELL_S * int(one)) for one in (held[at] + 1, held[at + 1]))
        told.append(Incident("gap", f"no events from {_moment(since)} to {_moment(until)}"))
    by_hour = found.by_hour()
    busiest = int(np.argmax(by_hour))
    if len(by_hour) >= 24 and by_hour[busiest] > MOST_OF_ONE_HOUR * found.events:
        text = f"{by_hour[busiest] / found.events:.0%} of the events came within an hour"
        told.append(Incident("burst", f"{text}, from {_moment(found.begins + timedelta(hours=busiest))} on"))
    return told


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
