"""Refresh of quantile maps: a new map is proposed where scores have drifted, and published as a promotion is.

    refresh_target     the map that would be replaced
    refresh_proposal   `propose`: the days since the drift, what speaks against them, the map
    refresh_incidents  what went on in these days beside what their counts tell
    refresh_decision   `apply` and `reject`
    refresh_outcome    `reconcile`: what became of a proposal that somebody was killed over
    refresh_record     what is kept of each tenant and predictor
    refresh_role       `refresher`: all of it for the role `calibrate`

What is decided, and why, stands in docs/refresh.md and docs/decisions/0038.
"""

from muse_stream.commands.refresh_decision import apply, misfits, reject
from muse_stream.commands.refresh_outcome import reconcile
from muse_stream.commands.refresh_proposal import propose
from muse_stream.commands.refresh_role import refresher
from muse_stream.commands.refresh_target import Target, anchor, current, target

__all__ = [
    "Target",
    "anchor",
    "apply",
    "current",
    "misfits",
    "propose",
    "reconcile",
    "refresher",
    "reject",
    "target",
]
