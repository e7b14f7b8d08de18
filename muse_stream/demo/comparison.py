"""What the promotion did to every tenant's alert rate, with MUSE and without it: one `Row` a tenant.

Three rates are measured at the tenant's own threshold, which nobody touches: `before` (the old predictor, live),
`after` (the new one, live), and `control` (the old one on the very events of `after`, from the audit topic). So the
move of the rate falls in two parts, each with an error of its own (`calibration/alert_rates.py`):

    after - before  =  (after - control)  +  (control - before)
    total              the promotion        the stream: both periods scored by the same predictor

The first part is what a promotion is responsible for. Both predictors' maps were fitted to the same events, so it is
free of whatever the stream does to both; it must stay within its error, always. The total must too, unless the stream
is known to drift: then a total that moved with its control is called `drifted`, and is no failure.

Without MUSE the tenant would compare the raw score, the experts' uncorrected mean, with a threshold of its own choice:
the one at which the old model's raw score raised as many alerts, in the calibration period, as its MUSE threshold did.
Every number comes from records on the topics; what is measured without MUSE goes through the same test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import FittedMap, Move, QuantileMap, Reference, Term, move
from muse_stream.demo import periods
from muse_stream.demo.ledger import Ledger
from muse_stream.demo.scenario import BARE_NEW, BARE_OLD, NEW, OLD, StreamEvents
from muse_stream.errors import MuseError

Verdict = Literal["kept", "drifted", "MOVED"]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Promise:
    """What one tenant was promised: its threshold, the reference, and the maps that keep it."""

    tenant: str
    threshold: float
    reference: Reference
    old: FittedMap
    new: FittedMap

    @property
    def rate(self) -> float:
        """The alert rate that the reference promises at the threshold."""
        return float(self.reference.alert_rate(self.threshold))


@dataclass(frozen=True, slots=True)
class Row:
    """One tenant's line of the table."""

    tenant: str
    threshold: float
    promised: float
    events: int
    """In the period after the promotion."""
    before: float
    after: float
    control: float
    total: Move
    promotion: Move
    bare_threshold: float
    without: float
    bare: Move
    """How far the rate would have moved without MUSE."""
    drifts: bool

    @property
    def verdict(self) -> Verdict:
        """Whether the promise was kept."""
        if not self.promotion.kept:
            return "MOVED"
        if not self.total.kept:
            return "drifted" if self.drifts else "MOVED"
        return "kept"


def compare(ledger: Ledger, events: StreamEvents, promises: Sequence[Promise], *, drifts: bool) -> list[Row]:
    """Measure all tenants. Raises MuseError for a tenant without events in one of the periods."""
    return [_row(ledger, events, promise, drifts) for promise in promises]


def _row(ledger: Ledger, events: StreamEvents, promise: Promise, drifts: bool) -> Row:
    sample, earlier, later = (
        period(ledger, events, promise.tenant) for period in (periods.calibration, periods.before, periods.after)
    )
    counts = {"calibration": len(sample), "before": len(earlier), "after": len(later)}
    if not all(counts.values()):
        found = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        raise MuseError(
            f"{promise.tenant} has no events in one of the periods ({found}): stream more, or fewer tenants"
        )
    at = promise.threshold
    was = _alerts(ledger.live.score[earlier], at)
    now = _alerts(ledger.live.score[later], at)
    would = _alerts(ledger.shadow(OLD).score[later], at)
    # on the calibration sample itself, under the maps that were fitted to it
    audit = ledger.shadow(NEW)
    old_there = _alerts(QuantileMap(promise.old, promise.reference).apply(audit.live_aggregate[sample]), at)
    new_there = _alerts(QuantileMap(promise.new, promise.reference).apply(audit.aggregate[sample]), at)
    raw_there = ledger.shadow(BARE_OLD).score[sample]
    raw_at = raw_threshold(raw_there, float(old_there.mean()))
    raw_now = _alerts(ledger.shadow(BARE_NEW).score[later], raw_at)
    calibrated = Term(sample, new_there - old_there, -1.0, error_only=True)
    earlier_term = Term(earlier, was, -1.0)
    return Row(
        tenant=promise.tenant,
        threshold=at,
        promised=promise.rate,
        events=len(later),
        before=float(was.mean()),
        after=float(now.mean()),
        control=float(would.mean()),
        total=move([Term(later, now), earlier_term, calibrated], events.entities),
        promotion=move([Term(later, now - would), calibrated], events.entities),
        bare_threshold=raw_at,
        without=float(raw_now.mean()),
        bare=move(
            [
                Term(later, raw_now),
                earlier_term,
                Term(sample, _alerts(raw_there, raw_at) - old_there, -1.0, error_only=True),
            ],
            events.entities,
        ),
        drifts=drifts,
    )


def raw_threshold(scores: Values, rate: float) -> float:
    """Return the largest threshold at which at least a share `rate` of the scores are alerts."""
    count = min(max(round(rate * len(scores)), 1), len(scores))
    return float(np.partition(scores, len(scores) - count)[len(scores) - count])


def same_bits(ledger: Ledger) -> tuple[int, int]:
    """Return how many events were answered by one generation live and in shadow, and how many of these bit for bit."""
    both, same = 0, 0
    for answers in ledger.shadows.values():
        rows = (answers.generation == ledger.live.generation) & ~np.isnan(answers.live_score)
        both += int(rows.sum())
        same += int((answers.live_score[rows] == ledger.live.score[rows]).sum())
    return both, same


def _alerts(scores: Values, threshold: float) -> Values:
    alerts: Values = (scores >= threshold).astype(np.float64)
    return alerts
