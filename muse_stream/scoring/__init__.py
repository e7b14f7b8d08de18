"""The pure core: columns of events in, scores out; no bytes, clock, socket, log or random number anywhere.

    EventTable -> intents (which route?) -> plan (each distinct step once) -> transforms -> Scored
                                            model | correction | aggregate | quantile map | clip

In: a validated document, models that keep the `Model` protocol, fitted maps. Out: a `Snapshot` to call for ever after.
Law: the same event under the same generation gives the same bits, in any batch and in either role.
"""

from muse_stream.scoring.columns import Categorical, Column
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.model import Model, ModelInput

__all__ = [
    "Categorical",
    "Column",
    "EventTable",
    "Model",
    "ModelInput",
]
