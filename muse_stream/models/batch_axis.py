"""Refuses a graph in which a row's answer depends on the other rows of its batch.

Invented rows cannot prove that none does: a graph may look at the largest amount of a batch and change only when that
is over 50,000. So the graph is read: which dimension of each tensor counts the rows is followed from the inputs through
the operators, and what works over that dimension (a reduction, a sort, a running sum, a normalisation, a product of
rows with rows, a choice of certain rows, a dynamic quantisation), or computes with the number of rows, is refused by
its name. What cannot be followed is not refused here: it is left to trials (`influence`, `warmup`).

Invariant: nothing is refused that treats each row alone. Where a shape is not known well enough to tell, the tensor is
`Unknown`, and whatever is made of it.
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from msgspec import Struct

from muse_stream.errors import ModelError
from muse_stream.models.artifact import Artifact, onnx
from muse_stream.models.onnx_nodes import Node, constant_values, node_of

ROWS = "N"
"""Stands for the number of rows in a shape."""
Dim = int | str | None
"""A size, `ROWS`, or not known (but not the number of rows)."""


class Constant(Struct, frozen=True):
    """A tensor that no row has a part in."""

    shape: tuple[Dim, ...] | None = None
    values: tuple[Any, ...] | None = None
    """What is in it, where that is known and short."""


class Rows(Struct, frozen=True):
    """A tensor whose dimension `axis` counts the rows: a slice of it depends on its own row alone."""

    shape: tuple[Dim, ...]
    axis: int

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def from_end(self) -> int:
        """The axis counted from the end, below 0."""
        return self.axis - self.rank


class Count(Struct, frozen=True):
    """Whole numbers worked out from the number of rows: parts of a shape."""

    dims: tuple[Dim, ...] | None = None
    """What it is, where that is known."""


class Unknown(Struct, frozen=True):
    """A tensor that depends on the rows in a way that was not followed."""


Value = Constant | Rows | Count | Unknown | None
"""None: an input that is left out."""
Outputs = Sequence[Value]


class _Mixing(Exception):
    """An operator makes rows depend on each other; the text says how."""


def refuse_mixing(model: Any, artifact: Artifact) -> bool:
    """Raise ModelError naming the operator that makes a row's answer depend on the other rows of the batch.

    Returns whether the rows could be followed through the whole graph: what was not is left to trials.
    """
    env: dict[str, Value] = {}
    for port in artifact.inputs:
        if port.shape is None or len(port.shape) not in (1, 2):
            env[port.name] = Unknown()
        else:
            env[port.name] = Rows((ROWS, *(dim if isinstance(dim, int) else None for dim in port.shape[1:])), 0)
    if artifact.inputs and all(port.shape and port.shape[0] == 1 for port in artifact.inputs):
        return True  # a file that takes one row at a time: it has no neighbours
    functions = {(one.domain, one.name): one for one in model.functions}
    opsets = {"" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in model.opset_import}
    reader = _Reader(functions, opsets)
    reader.followed = not any(isinstance(one, Unknown) for one in env.values())
    reader.graph(model.graph, env)
    return reader.followed


class _Reader:
    """Follows the rows through one file."""

    def __init__(self, functions: Mapping[tuple[str, str], Any], opsets: Mapping[str, int]) -> None:
        self._functions = functions
        self._opset = opsets.get("", 1)
        self.followed = True
        """Whether no tensor was met whose rows could not be followed."""

    def graph(self, graph: Any, env: dict[str, Value]) -> None:
        """Give every tensor of a graph a value; `env` holds those of its inputs and of the graphs around it."""
        for tensor in graph.initializer:
            env[tensor.name] = Constant(tuple(tensor.dims), constant_values(tensor))
        for sparse in graph.sparse_initializer:
            env[sparse.values.name] = Constant(tuple(sparse.dims))
        self._nodes(graph.node, env)

    def _nodes(self, nodes: Sequence[Any], env: dict[str, Value], outer: Mapping[str, Any] | None = None) -> None:
        for proto in nodes:
            node = node_of(proto, self._opset, outer or {})
            given = [env.get(name, Constant()) if name else None for name in proto.input]
            try:
                made = self._outputs(node, given, env)
            except _Mixing as mixing:
                where = f" ({proto.name})" if proto.name else ""
                raise ModelError(
                    f"a row's score would depend on the batch it comes in: operator {node.kind}{where} {mixing}; "
                    "the same event must always get the same bits: export a model that treats each row alone"
                ) from None
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
                made = []  # a node that no ONNX file may have: the runtime refuses it in its own words
            for place, name in enumerate(proto.output):
                env[name] = made[place] if place < len(made) else _unfollowed(given)
                self.followed &= not (name and isinstance(env[name], Unknown))

    def _outputs(self, node: Node, given: Sequence[Value], env: dict[str, Value]) -> Outputs:
        function = self._functions.get((node.domain, node.kind))
        if function is not None:
            inner: dict[str, Value] = dict(zip(function.input, given, strict=False))
            self._nodes(function.node, inner, node.attributes)
            return [inner.get(name, Unknown()) for name in function.output]
        if node.kind in ("If", "Loop", "Scan"):
            return self._control(node, given, env)
        if node.kind == "Constant":
            return [_constant(node)]
        follow = OPERATORS.get(node.kind)
        plain = not any(isinstance(one, Rows | Count) for one in given) and follow not in (_elementwise, _concat)
        return [_unfollowed(given)] * MANY if follow is None or plain else follow(node, given)

    def _control(self, node: Node, given: Sequence[Value], env: dict[str, Value]) -> Outputs:
        """Read the graphs inside an operator; what leaves them is not followed."""
        if node.kind == "If" and isinstance(given[0], Count):
            raise _Mixing("asks for the number of rows")
        for body in node.graphs:
            inner = dict(env)
            if node.kind == "Scan":
                _scan(node, body, given, inner)
            else:
                inner |= {one.name: Unknown() for one in body.input}
            self.graph(body, inner)
        return [_unfollowed([*given, *env.values()])] * MANY


MANY = 16
"""More outputs than an operator has that matters here."""


def _scan(node: Node, body: Any, given: Sequence[Value], inner: dict[str, Value]) -> None:
    """Refuse a scan over the rows that carries something from row to row."""
    scanned = int(node.attributes.get("num_scan_inputs", 1))
    states = len(given) - scanned
    axes = node.attributes.get("scan_input_axes") or (0,) * scanned
    over_rows = any(
        isinstance(one, Rows) and int(axis) % one.rank == one.axis
        for one, axis in zip(given[states:], axes, strict=False)
    )
    kept = {made.output[0]: made.input[0] for made in body.node if made.op_type == "Identity"}
    for entry, leaving in zip(body.input[:states], body.output[:states], strict=True):
        if over_rows and kept.get(leaving.name, leaving.name) != entry.name:
            raise _Mixing("goes from row to row and carries something along")
    for entry, one in zip(body.input, given, strict=True):
        inner[entry.name] = Unknown() if isinstance(one, Rows) else one


def _unfollowed(given: Sequence[Value]) -> Value:
    if any(isinstance(one, Rows | Unknown) for one in given):
        return Unknown()
    return Count() if any(isinstance(one, Count) for one in given) else Constant()


def _constant(node: Node) -> Value:
    value = node.attributes.get("value")
    if isinstance(value, onnx.TensorProto):
        return Constant(tuple(value.dims), constant_values(value))
    for name in ("value_int", "value_float"):
        if name in node.attributes:
            return Constant((), (node.attributes[name],))
    for name in ("value_ints", "value_floats"):
        if name in node.attributes:
            return Constant((len(node.attributes[name]),), tuple(node.attributes[name]))
    return Constant()


def _whole(value: Value | None) -> tuple[Dim, ...] | None:
    """Return the whole numbers that an input holds, as far as they are known."""
    if isinstance(value, Constant) and value.values is not None:
        return tuple(int(one) for one in value.values)
    return value.dims if isinstance(value, Count) else None


def _at(given: Sequence[Value], place: int) -> Value | None:
    return given[place] if place < len(given) else None


# ---------------------------------------------------------------- elementwise


def _elementwise(node: Node, given: Sequence[Value]) -> Outputs:
    """Operators that broadcast: one dimension of rows must meet itself in every input."""
    asked = given[:1] if node.kind in UNARY else [one for one in given if one is not None]
    rows = [one for one in asked if isinstance(one, Rows)]
    if not rows:
        return [_of_counts(node, asked)]
    if any(isinstance(one, Count) for one in asked):
        raise _Mixing("computes with the number of rows")
    if len({one.from_end for one in rows}) > 1:
        raise _Mixing("sets every row against every other (two inputs count the rows in different dimensions)")
    shapes = [one.shape for one in asked if isinstance(one, Constant | Rows) and one.shape is not None]
    if len(shapes) < len(asked):
        return [Unknown()]
    rank = max(map(len, shapes))
    return [Rows(_broadcast(shapes, rank, rank + rows[0].from_end), rank + rows[0].from_end)] * 2


def _broadcast(shapes: Sequence[tuple[Dim, ...]], rank: int, axis: int | None = None) -> tuple[Dim, ...]:
    dims: list[Dim] = []
    for place in range(rank):
        found = [shape[place - rank + len(shape)] for shape in shapes if place - rank + len(shape) >= 0]
        dims.append(next((dim for dim in found if dim != 1), 1))
    if axis is not None:
        dims[axis] = ROWS
    return tuple(dims)


def _of_counts(node: Node, given: Sequence[Value]) -> Value:
    """Arithmetic with shapes and constants: what keeps a vector as it is keeps what is known of it."""
    if node.kind in ("Cast", "Identity") and isinstance(given[0], Count | Constant):
        return given[0]
    shapes = [one.shape for one in given if isinstance(one, Constant) and one.shape is not None]
    if len(shapes) == len(given):
        return Constant(_broadcast(shapes, max(map(len, shapes), default=0)))
    return _unfollowed(given)


def _dropout(node: Node, given: Sequence[Value]) -> Outputs:
    trains = _at(given, 2)
    if trains is not None and not (isinstance(trains, Constant) and trains.values in ((False,), (0,))):
        raise _Mixing("is exported in training mode and drops other features of each row (torch: model.eval())")
    return _first(node, given)


def _first(node: Node, given: Sequence[Value]) -> Outputs:
    """Operators whose first output looks like their first input, whatever the others are."""
    return [given[0] if isinstance(given[0], Rows | Count) else _unfollowed(given)] * 2


# ---------------------------------------------------------------- over one dimension


def _reduce(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)]
    axes = node.attributes.get("axes")
    if axes is None and _at(given, 1) is not None:
        axes = _whole(given[1])
        if axes is None:
            return [Unknown()]
    if not axes:
        if node.attributes.get("noop_with_empty_axes"):
            return [one]
        axes = range(one.rank)
    reduced = {int(axis) % one.rank for axis in axes}
    if one.axis in reduced:
        raise _Mixing("goes over the rows of the batch")
    return [_without(one, reduced, keep=bool(node.attributes.get("keepdims", 1)))]


def _without(one: Rows, axes: set[int], *, keep: bool) -> Rows:
    if keep:
        return Rows(tuple(1 if place in axes else dim for place, dim in enumerate(one.shape)), one.axis)
    shape = tuple(dim for place, dim in enumerate(one.shape) if place not in axes)
    return Rows(shape, one.axis - sum(axis < one.axis for axis in axes))


def _arg(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)]
    axis = int(node.attributes.get("axis", 0)) % one.rank
    if axis == one.axis:
        raise _Mixing("goes over the rows of the batch")
    return [_without(one, {axis}, keep=bool(node.attributes.get("keepdims", 1)))]


def _over_axis(default: int, place: int | None = None) -> Callable[[Node, Sequence[Value]], Outputs]:
    """Operators that keep the shape and work over one dimension, named by an attribute or by input `place`."""

    def follow(node: Node, given: Sequence[Value]) -> Outputs:
        one = given[0]
        if not isinstance(one, Rows):
            return [_unfollowed(given)] * 2
        axes = (node.attributes.get("axis", default),) if place is None else _whole(_at(given, place))
        if not axes or not isinstance(axes[0], int):
            return [Unknown()] * 2
        if axes[0] % one.rank == one.axis:
            raise _Mixing("goes over the rows of the batch")
        shape = tuple(None if at == axes[0] % one.rank else dim for at, dim in enumerate(one.shape))
        return [one if node.kind != "TopK" else Rows(shape, one.axis)] * 2

    return follow


def _softmax(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)]
    old = node.opset < 13  # all dimensions from the axis on are one then
    axis = int(node.attributes.get("axis", 1 if old else -1)) % one.rank
    if one.axis == axis or (old and one.axis > axis):
        raise _Mixing("goes over the rows of the batch")
    return [one]


def _normalise(node: Node, given: Sequence[Value]) -> Outputs:
    """Layer normalisation: over all dimensions from the axis on."""
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)] * 3
    if one.axis >= int(node.attributes.get("axis", -1)) % one.rank:
        raise _Mixing("normalises over the rows of the batch")
    return [one, Unknown(), Unknown()]


def _mean_variance(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)]
    if one.axis in {int(axis) % one.rank for axis in node.attributes.get("axes", (0, 2, 3)) if axis < one.rank}:
        raise _Mixing("normalises over the rows of the batch")
    return [one]


def _always(node: Node, given: Sequence[Value]) -> Outputs:
    """Operators whose output depends on all of their first input, however it is laid out."""
    if isinstance(given[0], Rows):
        axis = node.attributes.get("axis")
        if node.kind == "NonZero" or axis is None or int(axis) % given[0].rank == given[0].axis:
            raise _Mixing("puts the rows of the batch together")
    return [_unfollowed(given)] * 4


def _dynamic_quantisation(node: Node, given: Sequence[Value]) -> Outputs:
    if isinstance(given[0], Rows):
        raise _Mixing("takes its scale from all rows of the batch (quantise statically: quantize_static)")
    return [_unfollowed(given)] * 3


# ---------------------------------------------------------------- products


def _matmul(node: Node, given: Sequence[Value]) -> Outputs:
    left, right = (given[0], given[3]) if node.kind == "QLinearMatMul" and len(given) > 3 else (given[0], given[1])
    left = _turned(left, bool(node.attributes.get("transA", 0)))
    right = _turned(right, bool(node.attributes.get("transB", 0)))
    if not isinstance(left, Rows | Constant) or not isinstance(right, Rows | Constant):
        return [Unknown()]
    _refuse_contraction(left, right)
    if isinstance(left, Rows) and isinstance(right, Rows):
        same = left.from_end == right.from_end and left.from_end < -2
        if not same:
            raise _Mixing("multiplies rows by rows of the batch")
    shape = _product_shape(left, right)
    if shape is None:
        return [Unknown()]
    axis = next(one.from_end for one in (left, right) if isinstance(one, Rows)) + len(shape)
    if isinstance(left, Rows) and isinstance(right, Constant) and len(right.shape or ()) == 1:
        axis = left.axis  # a vector on the right takes the last dimension away
    return [Rows(tuple(ROWS if at == axis else dim for at, dim in enumerate(shape)), axis)]


def _turned(value: Value, turn: bool) -> Value:
    if not turn or not isinstance(value, Rows | Constant) or value.shape is None or len(value.shape) < 2:
        return value
    shape = (*value.shape[:-2], value.shape[-1], value.shape[-2])
    if isinstance(value, Constant):
        return Constant(shape)
    swapped = {value.rank - 1: value.rank - 2, value.rank - 2: value.rank - 1}
    return Rows(shape, swapped.get(value.axis, value.axis))


def _refuse_contraction(left: Value, right: Value) -> None:
    if isinstance(left, Rows) and left.from_end == -1:
        raise _Mixing("sums over the rows of the batch")
    if isinstance(right, Rows) and (right.from_end == -2 or right.rank == 1):
        raise _Mixing("sums over the rows of the batch")


def _product_shape(left: Value, right: Value) -> tuple[Dim, ...] | None:
    one, other = getattr(left, "shape", None), getattr(right, "shape", None)
    if one is None or other is None or not one or not other:
        return None
    lead_one, lead_other = one[:-2], other[:-2]
    lead = lead_one if len(lead_one) >= len(lead_other) else lead_other
    return (*lead, *(one[-2:-1]), *(other[-1:] if len(other) > 1 else ()))


def _gemm(node: Node, given: Sequence[Value]) -> Outputs:
    made = _matmul(node, given[:2])
    bias = _at(given, 2)
    return made if isinstance(bias, Constant | None) else _elementwise(node, [*made, bias])


def _einsum(node: Node, given: Sequence[Value]) -> Outputs:
    equation = str(node.attributes.get("equation", "")).replace(" ", "")
    terms, arrow, result = equation.partition("->")
    if not arrow or "." in equation or any(isinstance(one, Unknown | Count) for one in given):
        return [Unknown()]
    letters = {term[one.axis] for term, one in zip(terms.split(","), given, strict=False) if isinstance(one, Rows)}
    if len(letters) > 1:
        raise _Mixing("multiplies rows by rows of the batch")
    letter = letters.pop()
    if letter not in result:
        raise _Mixing("sums over the rows of the batch")
    others = [term for term, one in zip(terms.split(","), given, strict=False) if not isinstance(one, Rows)]
    if any(letter in term for term in others):
        return [Unknown()]
    return [Rows(tuple(ROWS if one == letter else None for one in result), result.index(letter))]


def _distances(node: Node, given: Sequence[Value]) -> Outputs:
    if isinstance(given[0], Rows) and isinstance(given[1], Rows):
        raise _Mixing("sets every row against every other")
    return [Rows((ROWS, None), 0) if isinstance(given[0], Rows) and given[0].axis == 0 else Unknown()]


# ---------------------------------------------------------------- images and sequences


def _by_sample(node: Node, given: Sequence[Value]) -> Outputs:
    """Convolutions, pools, norms by sample: the first dimension counts samples, the others belong together."""
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)] * 2
    if one.axis > 0:
        raise _Mixing("goes over the rows of the batch (they do not stand in the first dimension)")
    same = node.kind in ("InstanceNormalization", "GroupNormalization", "LRN")
    return [one if same else Rows((ROWS, *(None for _ in one.shape[1:])), 0)] * 2


def _batch_norm(node: Node, given: Sequence[Value]) -> Outputs:
    trains = node.attributes.get("training_mode") or (node.opset < 14 and node.outputs > 1)
    if trains and isinstance(given[0], Rows):
        raise _Mixing("is exported in training mode and normalises over the rows of the batch")
    return [given[0] if isinstance(given[0], Rows) and given[0].axis == 0 else Unknown()]


def _recurrent(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)] * 3
    layout = int(node.attributes.get("layout", 0))
    if one.axis != 1 - layout:
        raise _Mixing("reads the rows of the batch as one sequence")
    if layout:
        return [Rows((ROWS, None, None, None), 0), *[Rows((ROWS, None, None), 0)] * 2]
    return [Rows((None, None, ROWS, None), 2), *[Rows((None, ROWS, None), 1)] * 2]


def _attention(node: Node, given: Sequence[Value]) -> Outputs:
    rows = [one for one in given[:3] if isinstance(one, Rows)]
    if any(one.axis > 0 for one in rows):
        raise _Mixing("goes over the rows of the batch (they do not stand in the first dimension)")
    return [Unknown()] * 4


# ---------------------------------------------------------------- shapes


def _transpose(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)]
    order = [int(axis) for axis in node.attributes.get("perm") or reversed(range(one.rank))]
    return [Rows(tuple(one.shape[axis] for axis in order), order.index(one.axis))]


def _shape(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [Constant() if isinstance(one, Count) else _unfollowed(given)]
    start, end = node.attributes.get("start", 0), node.attributes.get("end")
    return [_dims(one.shape[slice(start, end)])]


def _size(node: Node, given: Sequence[Value]) -> Outputs:
    return [Count() if isinstance(given[0], Rows) else _unfollowed(given)]


def _dims(dims: tuple[Dim, ...]) -> Value:
    """Return part of a shape: a constant where the number of rows is not in it."""
    if ROWS in dims:
        return Count(dims)
    return Constant((len(dims),), None if None in dims else dims)


def _reshape(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if isinstance(one, Count):
        return [one]
    target = _whole(_at(given, 1)) if len(given) > 1 else tuple(node.attributes.get("shape", ())) or None
    if not isinstance(one, Rows) or target is None:
        return [_unfollowed(given)]
    zero = not node.attributes.get("allowzero")
    wanted = [one.shape[at] if dim == 0 and zero and at < one.rank else dim for at, dim in enumerate(target)]
    place = next((at for at, dim in enumerate(wanted) if dim == ROWS), None)
    if place is None:
        place = next((at for at, dim in enumerate(wanted) if dim == -1), None)
    if place is None or _product(wanted[:place]) != _product(one.shape[: one.axis]):
        return [Unknown()]
    inside, outside = _product(one.shape[one.axis + 1 :]), _product(wanted[place + 1 :])
    if inside is not None and outside is not None and outside and inside % outside:
        return [Unknown()]  # several rows become one
    shape = tuple(ROWS if at == place else None if dim == -1 else dim for at, dim in enumerate(wanted))
    return [Rows(shape, place)]


def _product(dims: Sequence[Dim]) -> int | None:
    known = [dim for dim in dims if isinstance(dim, int) and dim >= 0]
    return prod(known) if len(known) == len(dims) else None


def _flatten(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)]
    axis = int(node.attributes.get("axis", 1))
    axis = axis % one.rank if axis < 0 else axis
    if axis > one.axis and _product(one.shape[: one.axis]) == 1:
        return [Rows((ROWS, _product(one.shape[axis:])), 0)]
    if axis <= one.axis and _product(one.shape[axis : one.axis]) == 1:
        return [Rows((_product(one.shape[:axis]), ROWS), 1)]
    return [Unknown()]


def _axes(node: Node, given: Sequence[Value]) -> tuple[int, ...] | None:
    found = node.attributes.get("axes")
    found = _whole(_at(given, 1)) if found is None else tuple(found)
    return None if found is None or not all(isinstance(one, int) for one in found) else found  # type: ignore[return-value]


def _unsqueeze(node: Node, given: Sequence[Value]) -> Outputs:
    one, axes = given[0], _axes(node, given)
    if not isinstance(one, Rows) or axes is None:
        return [one if isinstance(one, Count) else _unfollowed(given)]
    rank = one.rank + len(axes)
    new = {axis % rank for axis in axes}
    old = iter(enumerate(one.shape))
    shape: list[Dim] = []
    place = 0
    for at in range(rank):
        if at in new:
            shape.append(1)
        else:
            number, dim = next(old)
            place = at if number == one.axis else place
            shape.append(dim)
    return [Rows(tuple(shape), place)]


def _squeeze(node: Node, given: Sequence[Value]) -> Outputs:
    one, axes = given[0], _axes(node, given)
    if not isinstance(one, Rows):
        return [one if isinstance(one, Count) else _unfollowed(given)]
    if axes is None:
        if None in one.shape or len(given) > 1:
            return [Unknown()]
        axes = tuple(at for at, dim in enumerate(one.shape) if dim == 1)
    gone = {axis % one.rank for axis in axes}
    return [Unknown() if one.axis in gone else _without(one, gone, keep=False)]


def _concat(node: Node, given: Sequence[Value]) -> Outputs:
    rows = [one for one in given if isinstance(one, Rows)]
    if not rows:
        parts = [_whole(one) for one in given]
        whole = tuple(dim for part in parts for dim in part or ()) if all(part is not None for part in parts) else None
        return [_unfollowed(given) if whole is None else _dims(whole)]
    first = rows[0]
    axis = int(node.attributes.get("axis", 1)) % first.rank
    alike = len({(one.axis, one.rank) for one in rows}) == 1 and all(isinstance(one, Rows | Constant) for one in given)
    if not alike or axis == first.axis:
        return [Unknown()]
    return [Rows(tuple(None if at == axis else dim for at, dim in enumerate(first.shape)), first.axis)]


def _expand(node: Node, given: Sequence[Value]) -> Outputs:
    target = _whole(_at(given, 1))
    if target is None:
        return [Unknown()]
    one = given[0]
    if isinstance(one, Constant) and one.shape is not None and ROWS in target:
        rank = max(len(target), len(one.shape))
        axis = rank - len(target) + target.index(ROWS)
        return [Rows(_broadcast([target, one.shape], rank, axis), axis)]
    if not isinstance(one, Rows):
        return [Unknown()]
    rank = max(len(target), one.rank)
    if any(dim == ROWS and at - len(target) != one.from_end for at, dim in enumerate(target)):
        return [Unknown()]
    return [Rows(_broadcast([target, one.shape], rank, rank + one.from_end), rank + one.from_end)]


def _filled(node: Node, given: Sequence[Value]) -> Outputs:
    """A tensor of one value: every row of it is alike."""
    dims = _whole(given[0])
    return [Rows(dims, dims.index(ROWS)) if dims and ROWS in dims else Unknown()]


def _range(node: Node, given: Sequence[Value]) -> Outputs:
    return [Unknown()]


def _tile(node: Node, given: Sequence[Value]) -> Outputs:
    one, times = given[0], _whole(_at(given, 1))
    if not isinstance(one, Rows) or times is None or len(times) != one.rank or times[one.axis] != 1:
        return [Unknown()]
    return [Rows(tuple(dim if n == 1 else None for dim, n in zip(one.shape, times, strict=True)), one.axis)]


# ---------------------------------------------------------------- choices


def _gather(node: Node, given: Sequence[Value]) -> Outputs:
    data, chosen = given[0], given[1]
    axis = int(node.attributes.get("axis", 0))
    if isinstance(data, Count):
        return [_picked(data, chosen)]
    if isinstance(data, Constant) and isinstance(chosen, Rows) and data.shape is not None:
        axis %= max(len(data.shape), 1)
        return [Rows((*data.shape[:axis], *chosen.shape, *data.shape[axis + 1 :]), axis + chosen.axis)]
    return [_chosen_of_rows(data, chosen, axis) if isinstance(data, Rows) else _unfollowed(given)]


def _chosen_of_rows(data: Rows, chosen: Value, axis: int) -> Value:
    axis %= data.rank
    if axis == data.axis and isinstance(chosen, Constant | Count):
        raise _Mixing("takes certain rows of the batch")
    if axis == data.axis or not isinstance(chosen, Constant) or chosen.shape is None:
        return Unknown()
    shape = (*data.shape[:axis], *chosen.shape, *data.shape[axis + 1 :])
    return Rows(shape, data.axis if axis > data.axis else data.axis - 1 + len(chosen.shape))


def _picked(data: Count, chosen: Value) -> Value:
    """Return some entries of a shape."""
    which = _whole(chosen)
    if data.dims is None or which is None or not all(isinstance(one, int) for one in which):
        return Count()
    size = len(data.dims)
    return _dims(tuple(data.dims[one] for one in which if isinstance(one, int) and -size <= one < size))


def _gather_elements(node: Node, given: Sequence[Value]) -> Outputs:
    data, chosen = given[0], given[1]
    if not isinstance(data, Rows):
        return [_unfollowed(given)]
    if int(node.attributes.get("axis", 0)) % data.rank == data.axis:
        if isinstance(chosen, Constant | Count):
            raise _Mixing("takes certain rows of the batch")
        return [Unknown()]
    return [chosen if isinstance(chosen, Rows) and chosen.axis == data.axis else Unknown()]


def _slice(node: Node, given: Sequence[Value]) -> Outputs:
    data = given[0]
    starts, ends, axes, steps = (_slice_part(node, given, name, at) for at, name in enumerate(SLICE, start=1))
    if isinstance(data, Count):
        return [_cut(data, starts, ends, steps)]
    if not isinstance(data, Rows):
        return [_unfollowed(given)]
    if starts is None or ends is None:
        if axes and data.axis in {int(axis or 0) % data.rank for axis in axes} and isinstance(given[1], Count):
            raise _Mixing("takes certain rows of the batch")  # from a place on that the number of rows decides
        return [Unknown()]
    axes = axes or tuple(range(len(starts)))
    shape = list(data.shape)
    for at, axis in enumerate(axes):
        place = int(axis or 0) % data.rank
        if place != data.axis:
            shape[place] = None
            continue
        step, end = steps[at] if steps else 1, ends[at]
        if starts[at] == 0 and step == 1 and (end == ROWS or (isinstance(end, int) and end >= FAR)):
            continue
        if isinstance(starts[at], int) and isinstance(end, int):
            raise _Mixing("takes certain rows of the batch, or turns their order")
        return [Unknown()]
    return [Rows(tuple(shape), data.axis)]


SLICE = ("starts", "ends", "axes", "steps")
FAR = (1 << 31) - 1
"""An end of a slice that means: all that is left."""


def _slice_part(node: Node, given: Sequence[Value], name: str, place: int) -> tuple[Dim, ...] | None:
    found = node.attributes.get(name)
    return tuple(found) if found is not None else _whole(_at(given, place))


def _cut(
    data: Count, starts: tuple[Dim, ...] | None, ends: tuple[Dim, ...] | None, steps: tuple[Dim, ...] | None
) -> Value:
    if data.dims is None or not starts or not ends or not isinstance(starts[0], int) or not isinstance(ends[0], int):
        return Count()
    step = steps[0] if steps and isinstance(steps[0], int) else 1
    return _dims(data.dims[starts[0] : ends[0] : step])


def _split(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)] * MANY
    axis = int(node.attributes.get("axis", 0)) % one.rank
    if axis == one.axis:
        raise _Mixing("takes certain rows of the batch")
    return [Rows(tuple(None if at == axis else dim for at, dim in enumerate(one.shape)), one.axis)] * MANY


def _reversed(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if isinstance(one, Rows) and int(node.attributes.get("time_axis", 0)) % one.rank == one.axis:
        raise _Mixing("turns the order of the rows")
    return _first(node, given)


def _one_hot(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    if not isinstance(one, Rows):
        return [_unfollowed(given)]
    place = int(node.attributes.get("axis", -1)) % (one.rank + 1)
    return [Rows((*one.shape[:place], None, *one.shape[place:]), one.axis + (place <= one.axis))]


# ---------------------------------------------------------------- ai.onnx.ml


def _by_row(node: Node, given: Sequence[Value]) -> Outputs:
    """Classifiers and regressors of ai.onnx.ml: a label and a row of numbers, or a row of numbers."""
    one = given[0]
    if not isinstance(one, Rows) or one.axis or one.rank != 2:
        return [Unknown()] * 2
    scores = Rows((ROWS, None), 0)
    return [Rows((ROWS,), 0), scores] if node.kind.endswith("Classifier") else [scores]


def _same_rows(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    return [one if isinstance(one, Rows) and not one.axis and one.rank == 2 else Unknown()]


def _feature_vectors(node: Node, given: Sequence[Value]) -> Outputs:
    rows = all(isinstance(one, Rows) and not one.axis for one in given)
    return [Rows((ROWS, None), 0) if rows else Unknown()]


def _one_hot_ml(node: Node, given: Sequence[Value]) -> Outputs:
    one = given[0]
    return [Rows((*one.shape, None), one.axis) if isinstance(one, Rows) else Unknown()]


def _extracted(node: Node, given: Sequence[Value]) -> Outputs:
    data, chosen = given[0], given[1]
    if isinstance(data, Rows) and isinstance(chosen, Constant) and data.axis < data.rank - 1:
        return [Rows((*data.shape[:-1], None), data.axis)]
    return [Unknown()]


UNARY = frozenset(
    (
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Binarizer", "BitwiseNot", "Cast", "CastLike"),
        *("CategoryMapper", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "FastGelu"),
        *("Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LabelEncoder", "LeakyRelu"),
        *("Log", "Mish", "Neg", "Not", "QuickGelu", "Reciprocal", "RegexFullMatch", "Relu", "Round", "Selu", "Shrink"),
        *("Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "StringNormalizer", "Swish", "Tan"),
        *("Tanh", "ThresholdedRelu", "ZipMap"),
    )
)
"""Operators whose output has the shape of their first input."""
BROADCAST = (
    *("Add", "And", "BiasAdd", "BiasGelu", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow"),
    *("StringConcat", "Sub", "Sum", "Where", "Xor"),
)
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
LAYER_NORMS = (
    *("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
    *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
)
BY_SAMPLE = (
    *("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "FusedConv", "GlobalAveragePool", "GlobalLpPool"),
    *("GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "LpPool", "MaxPool", "QLinearConv"),
)
PRODUCTS = ("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul", "MatMulIntegerToFloat", "TransposeMatMul")
ML_BY_ROW = (
    *("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor"),
    *("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
)

OPERATORS: Mapping[str, Callable[[Node, Sequence[Value]], Outputs]] = {
    **dict.fromkeys((*UNARY, *BROADCAST), _elementwise),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), _first),
    **dict.fromkeys((f"Reduce{how}" for how in REDUCTIONS), _reduce),
    **dict.fromkeys(("ArgMax", "ArgMin"), _arg),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    **dict.fromkeys(LAYER_NORMS, _normalise),
    **dict.fromkeys(("NonZero", "Unique", "Compress"), _always),
    **dict.fromkeys(("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"), _dynamic_quantisation),
    **dict.fromkeys(PRODUCTS, _matmul),
    **dict.fromkeys(BY_SAMPLE, _by_sample),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), _recurrent),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "QAttention"), _attention),
    **dict.fromkeys(ML_BY_ROW, _by_row),
    **dict.fromkeys(("Imputer", "Normalizer", "Scaler"), _same_rows),
    "ArrayFeatureExtractor": _extracted,
    "BatchNormalization": _batch_norm,
    "CDist": _distances,
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "CumSum": _over_axis(0, 1),
    "CumProd": _over_axis(0, 1),
    "Dropout": _dropout,
    "Einsum": _einsum,
    "Expand": _expand,
    "FeatureVectorizer": _feature_vectors,
    "Flatten": _flatten,
    "FusedGemm": _gemm,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Gemm": _gemm,
    "LpNormalization": _over_axis(-1),
    "MeanVarianceNormalization": _mean_variance,
    "OneHot": _one_hot,
    "OneHotEncoder": _one_hot_ml,
    "Range": _range,
    "Reshape": _reshape,
    "ReverseSequence": _reversed,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "TopK": _over_axis(-1),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""How each operator is followed; any other makes something `Unknown` of rows."""
