"""Refuses a file in whose inner tensors an element changes with two rows of the batch.

For graphs that could not be followed to the end (`batch_axis`). A guard such as `max(all amounts) > 50000` shows in no
answer until a batch reaches it, but the maximum itself is a tensor of the graph and changes at every trial. So every
tensor that the inputs lead to is looked at, while a batch of equal rows has one row changed after the other. Where each
row is scored by itself, three things hold whatever shapes the tensors have:

- no element changes with two different rows;
- where one row changes something, every row does (they are equal, so none has a part of its own);
- where a dimension holds the rows one by one, each stands in its own place.

What stands inside a branch, a loop or a function shows only in what leaves it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.errors import ModelError
from muse_stream.models.constants import Constants
from muse_stream.models.session import BLOCK_ROWS, inner_session
from muse_stream.models.signature import Bound
from muse_stream.models.warmup import fitting_type

BASES = (0.0, 1.0)
CHANGES = (2.0, 1e6, -1e6)
"""What all rows hold, and what one of them is changed to."""
MOST_ROWS = 16
"""Rows that are changed, of a file that takes a larger number of them."""
CHANGE = 1e-3
"""Relative difference from which on an element has changed: far above rounding, far below what a sum of rows does."""
Arrays = Sequence[NDArray[Any]]


def refuse_influence(model: Any, bound: Bound, known: Constants) -> None:
    """Raise ModelError naming the operator that makes a tensor in which two rows meet.

    `model` is the parsed file, as the runtime loads it; its inner tensors become outputs of it.
    """
    rows = bound.batch or BLOCK_ROWS
    makers = _makers(model.graph, {port.name for port in bound.inputs})
    if rows == 1 or not makers:
        return
    run = inner_session(model, bound, list(makers))
    seen = [_Seen(rows) for _ in makers]
    for base, change in ((base, change) for base in BASES for change in CHANGES):
        for name, fault in _faults(run, bound, known, rows, base, change, list(zip(makers, seen, strict=True))):
            node = makers[name]
            where = f" ({node.name})" if node.name else ""
            raise ModelError(
                f"a row's score would depend on the batch it comes in: operator {node.op_type}{where} {fault} "
                f"(tensor {name!r}); the same event must always get the same bits: export a model that treats each "
                "row alone"
            )


def _makers(graph: Any, inputs: set[str]) -> dict[str, Any]:
    """Return the tensors that the inputs lead to, each with the node that makes it."""
    reached = set(inputs)
    makers: dict[str, Any] = {}
    for node in graph.node:
        if any(name in reached for name in _read(node)):
            makers.update((name, node) for name in node.output if name)
            reached.update(node.output)
    return makers


def _read(node: Any) -> Iterator[str]:
    """Yield the names that a node reads, those in the graphs inside it too."""
    yield from (name for name in node.input if name)
    for one in node.attribute:
        for graph in (one.g, *one.graphs):
            for inner in graph.node:
                yield from _read(inner)
            yield from (value.name for value in graph.output)


class _Seen:
    """What the rows have changed in one tensor."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._owner: NDArray[np.int64] | None = None
        """The row that each element has changed with; -1: none."""
        self._places: dict[int, dict[int, int]] = {}
        """Axis of as many places as rows -> row -> the one place in which it changes something."""
        self.changed = 0
        """Rows that have changed something since `start`."""

    def start(self) -> None:
        """Forget all but the owners: rows are now changed to another value."""
        self.changed = 0

    def meets(self, changed: NDArray[np.bool_], row: int) -> bool:
        """Note the elements that a row has changed; tell whether another row has changed one of them, too."""
        if self._owner is None or self._owner.shape != changed.shape:
            self._owner = np.full(changed.shape, -1)
        if not changed.any():
            return False
        owners = self._owner[changed]
        self._owner[changed] = row
        self._note_places(np.argwhere(changed), row)
        self.changed += 1
        return bool(((owners >= 0) & (owners != row)).any())

    def _note_places(self, where: NDArray[np.int64], row: int) -> None:
        if not self.changed:
            shape = () if self._owner is None else self._owner.shape
            self._places = {axis: {} for axis, size in enumerate(shape) if size == self._rows}
        for axis in list(self._places):
            if (where[:, axis] == where[0, axis]).all():
                self._places[axis][row] = int(where[0, axis])
            else:
                del self._places[axis]

    def moved(self) -> bool:
        """Tell whether the rows stand in a dimension of the tensor, and not in their places."""
        # a dimension that has this size by chance holds all rows in the same places, for they are alike
        found = [places for places in self._places.values() if len(set(places.values())) == len(places) > 1]
        return bool(found) and not any(all(row == place for row, place in places.items()) for places in found)


def _faults(
    run: Any, bound: Bound, known: Constants, rows: int, base: float, change: float, tensors: list[tuple[str, _Seen]]
) -> Iterator[tuple[str, str]]:
    """Change one row after the other; yield tensors, and what is wrong with each."""
    chosen = sorted({*range(min(rows, MOST_ROWS // 2)), *range(max(rows - MOST_ROWS // 2, 0), rows)})
    for _, seen in tensors:
        seen.start()
    try:
        plain = run(_batch(bound, known, rows, base))
        for row in chosen:
            batch = _batch(bound, known, rows, base)
            for array, port in zip(batch, bound.inputs, strict=True):
                array[row] = fitting_type(np.array([[change]]), port.dtype, known)
            for (name, seen), one, other in zip(tensors, plain, run(batch), strict=True):
                changed = _changed(one, other)
                if changed is not None and seen.meets(changed, row):
                    yield name, "makes a number of several rows of the batch"
    except RuntimeError:
        return  # a lookup out of its table: the model's own right
    for name, seen in tensors:
        if 0 < seen.changed < len(chosen):
            yield name, "takes certain rows of the batch"
        if seen.moved():
            yield name, "moves rows of the batch to the places of others"


def _batch(bound: Bound, known: Constants, rows: int, value: float) -> list[NDArray[Any]]:
    return [fitting_type(np.full((rows, port.width), value), port.dtype, known) for port in bound.inputs]


def _changed(one: Any, other: Any) -> NDArray[np.bool_] | None:
    """Tell which elements differ; None for what is no tensor, or has another shape now."""
    if not isinstance(one, np.ndarray) or one.shape != other.shape:
        return None
    if one.dtype.kind != "f":
        return np.asarray(one != other)
    with np.errstate(invalid="ignore", over="ignore"):
        one, other = one.astype(np.float64), other.astype(np.float64)
        near = np.abs(one - other) <= CHANGE * np.maximum(np.abs(one), np.abs(other))
    return np.asarray(~(near | (one == other) | (np.isnan(one) & np.isnan(other))))
