"""The pure core: columns of events in, scores out; no bytes, clock, socket, log or random number anywhere.

    EventTable -> routing (which route?) -> plan (each distinct node once) -> transforms -> Scored
                                            model | correction | aggregate | quantile map | clip

`compile_snapshot` makes a `Snapshot` of a checked document, models that keep the `Model` protocol, and fitted maps.
Invariant: the same event under the same generation gives the same bits, in any batch and in either role.

    snapshot                       a compiled generation: what others call
    routing, selection, sampling   which route a row takes; which rows an operator runs on; which a shadow sees
    planner, node_compiler, plan   a document -> the list of distinct operators
    operators, aggregation         what they compute
    execute, rehearsal             run a plan on a batch; run every predictor once, for a trial
    features, model, bisection     columns -> a model's inputs; what a model offers; which rows make it raise
    columns, event_table, scores   a column, a batch, the answers
    dataframe                      tables of a notebook in, plain columns out
    event_rows                     events as dictionaries -> a model's inputs
    required_fields                what must be decoded for one event format
    reference_rates                what a reference promises at its thresholds
"""

from muse_stream.scoring.answers import Answers
from muse_stream.scoring.bisection import MESSAGE_LENGTH, described, halved
from muse_stream.scoring.columns import AS_TEXT, Categorical, Column
from muse_stream.scoring.dataframe import Table
from muse_stream.scoring.event_rows import bound_rows, found, tensors_of
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.execute import without
from muse_stream.scoring.features import Tensor, fits
from muse_stream.scoring.model import Model, ModelInput
from muse_stream.scoring.node_compiler import reference_from
from muse_stream.scoring.reference_rates import promised_rates
from muse_stream.scoring.rehearsal import Rehearsed
from muse_stream.scoring.required_fields import predictors_of, reachable
from muse_stream.scoring.sampling import ID_BYTES
from muse_stream.scoring.scores import PredictorScores, Scored
from muse_stream.scoring.snapshot import Snapshot, compile_snapshot, models_needed

__all__ = [
    "AS_TEXT",
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
    "Scored",
    "Snapshot",
    "Table",
    "Tensor",
    "bound_rows",
    "compile_snapshot",
    "described",
    "fits",
    "found",
    "halved",
    "models_needed",
    "predictors_of",
    "promised_rates",
    "reachable",
    "reference_from",
    "tensors_of",
    "without",
]
