"""The pure core: columns of events in, scores out; no bytes, clock, socket, log or random number anywhere.

    EventTable -> intents (which route?) -> plan (each distinct step once) -> transforms -> Scored
                                            model | correction | aggregate | quantile map | clip

In: a validated document, models that keep the `Model` protocol, fitted maps. Out: a `Snapshot` to call for ever after.
Law: the same event under the same generation gives the same bits, in any batch and in either role.
"""

from muse_stream.scoring.answers import Answers
from muse_stream.scoring.bisection import MESSAGE_LENGTH, described
from muse_stream.scoring.columns import Categorical, Column
from muse_stream.scoring.dataframe import Table
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.execute import without
from muse_stream.scoring.model import Model, ModelInput
from muse_stream.scoring.reference_rates import promised_rates
from muse_stream.scoring.rehearsal import Rehearsed
from muse_stream.scoring.required_fields import predictors_of, reachable
from muse_stream.scoring.sampling import ID_BYTES
from muse_stream.scoring.scores import PredictorScores
from muse_stream.scoring.snapshot import Role, Snapshot, compile_snapshot, models_needed

__all__ = [
    "ID_BYTES",
    "MESSAGE_LENGTH",
    "Answers",
    "Categorical",
    "Column",
    "EventTable",
    "Model",
    "ModelInput",
    "PredictorScores",
    "Rehearsed",
    "Role",
    "Snapshot",
    "Table",
    "compile_snapshot",
    "described",
    "models_needed",
    "predictors_of",
    "promised_rates",
    "reachable",
    "without",
]
