"""Events as plain dictionaries to a model's tensors: for golden events, which a person writes or a table holds.

The same binding as in service (order of features, category tables, defaults, exactness), without Avro: a field is found
by its dotted path or by a key of that name, and is missing where it is null or not there. A Python loop over rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from muse_stream.config import Document
from muse_stream.errors import ConfigError
from muse_stream.scoring.columns import Column
from muse_stream.scoring.dataframe import feature_column
from muse_stream.scoring.features import Binding, Bound, Tensor
from muse_stream.scoring.model import Model
from muse_stream.scoring.node_compiler import NodeCompiler
from muse_stream.scoring.selection import Selection

Event = Mapping[str, Any]


def tensors_of(document: Document, name: str, model: Model) -> tuple[Tensor, ...]:
    """Return how a document feeds one of its models. Raises ConfigError when the two do not fit."""
    compiler = NodeCompiler(document, {name: model}, {})
    tensors = compiler.tensors(name, model)
    if tensors is None or compiler.problems:
        raise ConfigError(compiler.problems)
    return tensors


def bound_rows(tensors: Sequence[Tensor], events: Sequence[Event]) -> Bound:
    """Return the tensors of some events. Raises ValueError when a column is not what the binding says."""
    binding = Binding(tensors)
    columns: dict[str, Column] = {
        field: feature_column([found(event, field) for event in events], text=field in binding.texts)
        for field in binding.fields
    }
    return binding.build(columns, Selection(0, np.arange(len(events), dtype=np.int64), whole=True))


def found(event: Event, field: str) -> Any:
    """Return what an event has at a dotted path; None where there is nothing."""
    if field in event:
        return event[field]
    head, dot, rest = field.partition(".")
    inner = event.get(head)
    return found(inner, rest) if dot and isinstance(inner, Mapping) else None
