"""Which events are compared: the periods of a run, by the generation that answered.

    calibration   audited by generation 2: the maps of generation 3 are fitted to them
    before        answered live by generation 3: the old predictor, on those maps
    after         answered live by generation 4, and audited: the new predictor answers, the old one shadows

An event belongs to a period because of the generation its record names, not because of a clock. Behaviour has a weekly
rhythm, so a period that spans whole weeks is cut to them, next to the promotion; a shorter one is taken whole.
"""

import numpy as np
from numpy.typing import NDArray

from muse_stream.demo.ledger import Ledger
from muse_stream.demo.scenario import BARE_NEW, BARE_OLD, NEW, OLD, StreamEvents

FIRST, SHADOWED, CALIBRATED, PROMOTED = 1, 2, 3, 4
"""Numbers of the generations in a fresh store; see `configuration`."""
WEEK_MS = 7 * 86_400_000

Rows = NDArray[np.int64]


def calibration(ledger: Ledger, events: StreamEvents, tenant: str) -> Rows:
    """Return the events that the maps of generation 3 are fitted to."""
    complete = _audited(ledger, SHADOWED, NEW, BARE_OLD)
    return _weeks(events, events.rows_of(tenant), complete, last=True)


def before(ledger: Ledger, events: StreamEvents, tenant: str) -> Rows:
    """Return the last events that the old predictor answered."""
    return _weeks(events, events.rows_of(tenant), ledger.live.where(CALIBRATED), last=True)


def after(ledger: Ledger, events: StreamEvents, tenant: str) -> Rows:
    """Return the first events that the new predictor answered, and the old one shadowed."""
    complete = ledger.live.where(PROMOTED) & _audited(ledger, PROMOTED, OLD, BARE_NEW)
    return _weeks(events, events.rows_of(tenant), complete, last=False)


def _audited(ledger: Ledger, generation: int, *predictors: str) -> NDArray[np.bool_]:
    """Return which events this generation audited with a score of each of the predictors."""
    answers = [ledger.shadow(name) for name in predictors]
    masks = [one.where(generation) & ~np.isnan(one.score) for one in answers]
    return np.asarray(np.logical_and.reduce(masks))


def _weeks(events: StreamEvents, own: Rows, chosen: NDArray[np.bool_], *, last: bool) -> Rows:
    rows = own[chosen[own]]
    if not len(rows):
        return rows
    times = events.time_ms[rows]
    weeks = int(times.max() - times.min()) // WEEK_MS
    if not weeks:
        return rows
    inside = times > times.max() - weeks * WEEK_MS if last else times < times.min() + weeks * WEEK_MS
    return np.asarray(rows[inside])
