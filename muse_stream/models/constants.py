"""The numbers and texts that a model compares its inputs with, as far as its file holds them.

Invented rows find little in a model unless they stand on both sides of its own thresholds and use its own categories:
so these are collected from the file, a bounded number of each.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from msgspec import Struct

from muse_stream.models.artifact import messages, onnx
from muse_stream.models.onnx_nodes import constant_values

SCALARS = 64
"""Different scalar constants that are looked at, the largest and the smallest first."""
THRESHOLDS = 512
"""Split thresholds of trees: more than a probe needs to reach different leaves."""
TEXTS = 256
"""Categories."""
THRESHOLD_NAMES = frozenset({"nodes_values", "nodes_values_as_tensor", "nodes_splits"})
TEXT_NAMES = frozenset({"keys_strings", "cats_strings", "vocabulary", "pool_strings", "string_vocabulary"})


class Constants(Struct, frozen=True):
    """What was found."""

    scalars: tuple[float, ...] = ()
    """Numbers that stand alone: what a whole tensor is compared with, or scaled by."""
    thresholds: tuple[float, ...] = ()
    """Of trees."""
    texts: tuple[str, ...] = ()


def constants(model: Any) -> Constants:
    """Collect from a parsed file."""
    attributes = list(messages(model, onnx.AttributeProto))
    tensors = list(messages(model, onnx.TensorProto))
    scalars = _numbers(_scalars(attributes, tensors))
    # from both ends of what is sorted: guards stand far out
    chosen = (*scalars[: SCALARS // 2], *scalars[SCALARS // 2 :][-SCALARS // 2 :])
    trees = [one for one in attributes if one.name in THRESHOLD_NAMES]
    thresholds = _numbers(value for one in trees for value in one.floats or constant_values(one.t) or ())
    step = max(len(thresholds) // THRESHOLDS, 1)
    texts = dict.fromkeys(text for one in attributes if one.name in TEXT_NAMES for text in one.strings)
    texts |= dict.fromkeys(text for one in tensors for text in one.string_data)
    return Constants(chosen, thresholds[::step], tuple(text.decode("utf-8", "replace") for text in list(texts)[:TEXTS]))


def _scalars(attributes: Iterable[Any], tensors: Iterable[Any]) -> Iterator[float]:
    for one in attributes:
        if one.name in ("value_float", "value_int", "alpha", "beta", "min", "max", "threshold", "bias"):
            yield float(one.f or one.i)
    for tensor in tensors:
        if int(np.prod(tensor.dims, dtype=np.int64)) == 1:
            yield from map(float, constant_values(tensor) or ())


def _numbers(values: Iterable[float]) -> tuple[float, ...]:
    found = np.unique(np.fromiter(values, np.float64))
    return tuple(found[np.isfinite(found)].tolist())
