"""What a tenant would have been served: policies for its quantile map, walked forward from period to period.

Scores before the map (aggregates) of several tenants, period by period, give each policy's maps for the next period.
A policy sees what was known when its period began, and nothing later.

    raw         the experts as they answer: no correction, no map
    corrected   after all corrections: the aggregate that maps are fitted to
    kept        the map of the first period, kept for ever, also when the model changes
    last        a map of the tenant's own last period
    expanding   a map of everything of the tenant's since the beginning
    pooled      one map for all tenants, of the last period
    shrinkage   between the pool's and the tenant's own, by how many events it has (cold start)
    hindsight   nobody could have served it: a map of every second event of the period itself, judged on the others.
                Its error is the map's alone; what `last` has beyond it is the stream, which moved between periods
    refresh     the map stays while the last period's alert rates are within their sampling error of the promise;
                otherwise, and when the model changes, a map as `shrinkage` has it
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from muse_stream.calibration.alert_rates import LIMIT
from muse_stream.calibration.cold_start import Pool
from muse_stream.calibration.measures import AlertRate, Rate
from muse_stream.calibration.piecewise_linear import Floats
from muse_stream.calibration.quantile_map import FittedMap, QuantileMap, knots_of
from muse_stream.calibration.reference import Reference
from muse_stream.calibration.score_histogram import ScoreHistogram, lower_edges

MAPPED: Final = ("kept", "last", "expanding", "pooled", "shrinkage", "refresh")
POLICIES: Final = ("raw", "corrected", *MAPPED)
HINDSIGHT: Final = "hindsight"
KEEP: Final = 20_000
"""Of so many events of a tenant in a period, each score is kept; of more, a histogram and every so-manieth score."""


class Thinned(Struct, eq=False):
    """Scores of one tenant in order of time: all of them, or of many every second, fourth, ... one."""

    scores: list[Floats] = field(default_factory=list)
    kept: int = 0
    events: int = 0
    stride: int = 1

    def add(self, scores: Floats) -> None:
        """Add scores."""
        first = -self.events % self.stride
        some = scores[first :: self.stride]
        self.events += len(scores)
        self.scores.append(some)
        self.kept += len(some)
        while self.kept > 2 * KEEP:
            whole = self.all()[::2]
            self.scores, self.kept, self.stride = [whole], len(whole), 2 * self.stride

    def all(self) -> Floats:
        """Return what was kept."""
        return np.concatenate(self.scores) if self.scores else np.zeros(0)


class Window:
    """One predictor's aggregates of some time, by tenant."""

    def __init__(self, tenants: int) -> None:
        self.histogram = ScoreHistogram.empty(tenants)
        self.second = ScoreHistogram.empty(tenants)
        """Every second event of each tenant."""
        self.thinned = [Thinned() for _ in range(tenants)]

    def add(self, scores: Floats, tenant: NDArray[np.int64]) -> None:
        """Add events."""
        self.histogram.add(scores, None, tenant)
        second = np.zeros(len(scores), dtype=bool)
        for code in np.unique(tenant).tolist():
            mine = np.flatnonzero(tenant == code)
            second[mine[self.thinned[code].events % 2 :: 2]] = True
        self.second.add(scores[second], None, tenant[second])
        for code in np.unique(tenant).tolist():
            self.thinned[code].add(scores[tenant == code])

    def own(self, tenant: int, reference: Reference) -> FittedMap | None:
        """Return the map of a tenant's own events; None where it has fewer than two different scores."""
        kept = self.thinned[tenant]
        if kept.stride == 1:
            scores = kept.all()
            varied = len(scores) > 1 and float(scores.min()) < float(scores.max())
            return FittedMap.fit(scores, reference) if varied else None
        return of_histogram(self.histogram.one(tenant), reference)

    def hindsight(self, tenant: int, promised: Mapping[float, float], reference: Reference) -> list[AlertRate] | None:
        """Return the alert rates of half a tenant's events under the map of the other half; None where none fits."""
        fitted = of_histogram(self.second.one(tenant), reference)
        if fitted is None:
            return None
        x, y = QuantileMap(fitted, reference).knots
        rest = self.histogram.counts[tenant].sum(axis=0) - self.second.counts[tenant].sum(axis=0)
        above = np.append(np.cumsum(rest[::-1])[::-1], 0)
        edges = np.append(lower_edges(), 1.0)
        rates = []
        for threshold, rate in promised.items():
            place = int(np.searchsorted(y, threshold, side="left"))
            low, high = max(place - 1, 0), min(place, len(y) - 1)
            share = (threshold - y[low]) / (y[high] - y[low]) if y[high] > y[low] else 0.0
            alerts = round(float(np.interp(x[low] + share * (x[high] - x[low]), edges, above)))
            rates.append(AlertRate(threshold, rate, Rate(alerts, int(above[0]))))
        return rates

    def pooled(self, reference: Reference) -> FittedMap | None:
        """Return one map of all tenants' events."""
        return of_histogram(self.histogram.pooled(), reference)

    def shrunken(self, tenant: int, reference: Reference) -> FittedMap | None:
        """Return a tenant's map between the others' and its own."""
        kept = self.thinned[tenant]
        others = [one.all() for place, one in enumerate(self.thinned) if place != tenant and one.kept]
        if kept.events >= KEEP or not others:  # the pool adds nothing to so many, and a fit costs a sort of all
            return self.own(tenant, reference)
        return Pool.fit(others).shrunken(kept.all(), reference)


def of_histogram(histogram: ScoreHistogram, reference: Reference) -> FittedMap | None:
    """Return a map of a histogram's events; None where they have fewer than two different scores.

    On events spread evenly within a cell its alert rates are exact; ties within a cell move them by the tie.
    """
    values, counts = histogram.weighted()
    if len(values) < 2:
        return None
    events = int(counts.sum())
    levels, knots = knots_of(values, (np.cumsum(counts) - 0.5 * counts) / events, events, reference)
    return FittedMap(levels, knots, events)


class Served(Struct, eq=False):
    """What a policy's scores were, by tenant."""

    edges: Floats
    """Thresholds and the edges of the stability index, rising."""
    counts: NDArray[np.int64]
    """[tenants, edges + 1] events between them."""
    squares: Floats
    """[tenants] sum of squared distances of score and label."""
    histogram: ScoreHistogram

    @classmethod
    def empty(cls, tenants: int, edges: Floats) -> "Served":
        """Return one without events."""
        counts = np.zeros((tenants, len(edges) + 1), dtype=np.int64)
        return cls(edges, counts, np.zeros(tenants), ScoreHistogram.empty(tenants))

    def add(self, scores: Floats, labels: NDArray[np.bool_], tenant: NDArray[np.int64]) -> None:
        """Add events."""
        tenants, places = len(self.counts), len(self.edges) + 1
        at = tenant * places + np.searchsorted(self.edges, scores, side="right")
        self.counts += np.bincount(at, minlength=tenants * places).reshape(tenants, places)
        self.squares += np.bincount(tenant, weights=np.square(scores - labels), minlength=tenants)
        self.histogram.add(scores, labels, tenant)

    def merge(self, other: "Served") -> None:
        """Add all that another one has."""
        self.counts += other.counts
        self.squares += other.squares
        self.histogram.merge(other.histogram)

    def some(self, tenant: int | None) -> "Served":
        """Return that of one tenant, or of all together."""
        if tenant is None:
            total = self.counts.sum(axis=0, keepdims=True), self.squares.sum(keepdims=True)
            return Served(self.edges, *total, self.histogram.pooled())
        part = slice(tenant, tenant + 1)
        return Served(self.edges, self.counts[part], self.squares[part], self.histogram.one(tenant))

    @property
    def events(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def alerts(self, threshold: float) -> NDArray[np.int64]:
        """Return how many events of each tenant are at or above a threshold, which is one of the edges."""
        above = int(np.searchsorted(self.edges, threshold, side="right"))
        return np.asarray(self.counts[:, above:].sum(axis=1))

    def between(self, edges: Floats) -> NDArray[np.int64]:
        """Return how many events, of all tenants, lie between some of the edges."""
        starts = np.concatenate([[0], np.searchsorted(self.edges, edges, side="right")])
        return np.asarray(np.add.reduceat(self.counts.sum(axis=0), starts))


class Refresher:
    """Decides when the map of the policy `refresh` is fitted anew."""

    def __init__(self, tenants: int, promised: Mapping[float, float]) -> None:
        self._promised = promised
        self._content: str | None = None
        self._maps: list[QuantileMap | None] = [None] * tenants
        self.fits = 0

    def maps(self, content: str, fresh: Sequence[QuantileMap], last: Served | None) -> list[QuantileMap]:
        """Return the maps for the next period: `fresh` ones where the content is another, or a rate has moved."""
        chosen = []
        for tenant, one in enumerate(fresh):
            current = self._maps[tenant]
            if current is None or self._content != content or self._moved(tenant, current, last):
                current = one
                self.fits += 1
            chosen.append(current)
        self._maps, self._content = list(chosen), content
        return chosen

    def _moved(self, tenant: int, current: QuantileMap, last: Served | None) -> bool:
        if last is None or not (events := int(last.counts[tenant].sum())):
            return False
        for threshold, promised in self._promised.items():
            rate = float(last.alerts(threshold)[tenant]) / events
            error = (promised * (1.0 - promised) * (1.0 / events + 1.0 / max(current.fitted.samples, 1))) ** 0.5
            if abs(rate - promised) > LIMIT * error:
                return True
        return False
