"""A quantile map from what was counted: the days' sketches, merged, and what such a map can be trusted in.

Takes the counts of one tenant and predictor content over some days; gives the map and, for each threshold, the interval
of its true alert rate. Events of one entity are no independent ones: the groups of entities tell the design effect.
Pure. `fit --from sketches` and the role `calibrate` share it.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from muse_stream.calibration.day_counts import GROUPS, DayCounts
from muse_stream.calibration.drift_evidence import design_effect
from muse_stream.calibration.evidence import Trust, trust_in_counts
from muse_stream.calibration.quantile_map import FittedMap, QuantileMap
from muse_stream.calibration.reference import Reference
from muse_stream.calibration.score_sketch import ScoreSketch

ERROR: Final = 0.01
"""How far an alert rate that is read from a sketch may be off, as a share of it (docs/sketches.md)."""


class SketchMap(Struct, frozen=True, eq=False):
    """A map that was fitted to counts."""

    map: FittedMap
    sketch: ScoreSketch
    """Of all the days."""
    trust: tuple[Trust, ...]
    """By threshold."""
    first_day: str
    last_day: str

    @property
    def events(self) -> int:
        """How many it was fitted on."""
        return self.sketch.events


def map_from_counts(days: Sequence[DayCounts], reference: Reference, thresholds: Sequence[float]) -> SketchMap:
    """Fit the map of the days' tenant and predictor content to `reference`.

    Raises ValueError where there is no event or only one score, for counts of several tenants or predictor contents,
    and for thresholds that do not rise in (0, 1).
    """
    if len({(one.tenant, one.content) for one in days}) > 1:
        raise ValueError("these counts are of several tenants or predictor contents: no map fits them all")
    sketch = ScoreSketch()
    for one in days:
        sketch.merge(one.sketch)
    if not sketch.events:
        raise ValueError("nothing is counted of these days: there is nothing to fit to")
    first = days[0]
    fitted = sketch.fit(reference, first.content, (first.tenant,))
    reached = sketch.alert_rates(QuantileMap(fitted, reference), thresholds).tolist()
    trusted = trust_in_counts(sketch.events, _effects(days, thresholds), reached, reference, thresholds, ERROR)
    held = sorted(one.day for one in days if one.events)
    return SketchMap(fitted, sketch, trusted, held[0], held[-1])


def _effects(days: Sequence[DayCounts], thresholds: Sequence[float]) -> list[float]:
    """Return the design effect at each threshold, from what maps with these thresholds have served."""
    known = [one for day in days for one in day.maps.values() if one.thresholds == tuple(thresholds)]
    groups = sum((one.groups for one in known), np.zeros((GROUPS, 1 + len(thresholds)), dtype=np.int64))
    return [design_effect(groups[:, 0], groups[:, 1 + at]) for at in range(len(thresholds))]
