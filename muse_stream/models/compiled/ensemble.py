"""A tree ensemble of an ONNX file as plain data, or the reason why onnxruntime has to run it.

Three operators of `ai.onnx.ml` are read: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble (opset 5). The
rules that give onnxruntime's bits are in docs/compiled-trees.md; whatever these rules do not cover is refused here.
"""

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from muse_stream.models.onnx_nodes import constant_values

FLOAT, UINT8, DOUBLE = 1, 2, 11
"""TensorProto.DataType."""
MOST_NODES = 2_000_000
"""Code for more nodes than this takes minutes to make and gigabytes to hold."""


class Aggregate(StrEnum):
    """How the leaves that a row reaches in the trees become one number."""

    SUM = "SUM"
    AVERAGE = "AVERAGE"
    MIN = "MIN"
    MAX = "MAX"


class Finish(StrEnum):
    """What is done to a row's numbers in the end."""

    NONE = "NONE"
    LOGISTIC = "LOGISTIC"
    SOFTMAX = "SOFTMAX"
    COMPLEMENT = "COMPLEMENT"
    """One number s of two classes: [1 - s, s]."""
    OPPOSITE = "OPPOSITE"
    """One number s of two classes: [-s, s]."""
    TWO_LOGISTICS = "TWO_LOGISTICS"
    """One number s of two classes: [logistic(-s), logistic(s)]."""


class Compare(StrEnum):
    """How a value is compared with a node's threshold; the value is LLVM's word for it."""

    BRANCH_LEQ = "le"
    BRANCH_LT = "lt"
    BRANCH_GTE = "ge"
    BRANCH_GT = "gt"
    BRANCH_EQ = "eq"
    BRANCH_NEQ = "ne"


class Leaf(Struct, frozen=True):
    """Adds to the targets that it names."""

    weights: tuple[tuple[int, float], ...]


class Branch(Struct, frozen=True):
    """A comparison; `yes` and `no` are places in the tree's list."""

    feature: int
    compare: Compare
    threshold: float
    missing_is_yes: bool
    yes: int
    no: int


Tree = tuple[Leaf | Branch, ...]
"""The root first."""


class Ensemble(Struct, frozen=True):
    """Everything that an answer depends on."""

    trees: tuple[Tree, ...]
    width: int
    """Columns of the table that it takes; no branch reads beyond them."""
    targets: int
    """Numbers that the trees add to."""
    aggregate: Aggregate
    base: tuple[float, ...]
    """Added to each target in the end; empty for none."""
    finish: Finish
    columns: int
    """Of the answer."""
    double: bool
    """Whether rows, thresholds and sums are float64 and not float32."""
    double_answer: bool
    """Whether the answer is float64 and not float32."""

    @property
    def nodes(self) -> int:
        """How many branches and leaves there are."""
        return sum(map(len, self.trees))


class NotCompiledError(Exception):
    """Why an ensemble stays with onnxruntime."""


def read_ensemble(node: Any, place: int, width: int, *, double: bool) -> Ensemble:
    """Read a node, of which the output number `place` is asked for; raises NotCompiledError.

    `width` columns of float64 (`double`) or float32 go into it.
    """
    attributes = {one.name: one for one in node.attribute}
    ensemble = READERS[node.op_type](_Given(attributes, double), place, width)
    if ensemble.nodes > MOST_NODES:
        raise NotCompiledError(f"it has more than {MOST_NODES:,} nodes")
    if not ensemble.trees:
        raise NotCompiledError("it has no tree")
    return ensemble


class _Given:
    """A node's attributes as Python values."""

    def __init__(self, attributes: Mapping[str, Any], double: bool) -> None:
        self._attributes = attributes
        self.double = double

    def ints(self, name: str) -> list[int]:
        return list(self._attributes[name].ints) if name in self._attributes else []

    def texts(self, name: str) -> list[str]:
        return [text.decode() for text in self._attributes[name].strings] if name in self._attributes else []

    def text(self, name: str, default: str) -> str:
        return str(self._attributes[name].s.decode()) if name in self._attributes else default

    def number(self, name: str, default: int) -> int:
        return int(self._attributes[name].i) if name in self._attributes else default

    def floats(self, name: str) -> tuple[float, ...]:
        """Return a list of floats, or of doubles where it is given as a tensor; none of them NaN."""
        plain = tuple(self._attributes[name].floats) if name in self._attributes else ()
        values = plain or self.tensor(f"{name}_as_tensor")
        if any(value != value for value in values):  # noqa: PLR0124  # not a number
            raise NotCompiledError(f"{name} has a value that is not a number")
        return values

    def tensor(self, name: str) -> tuple[float, ...]:
        """Return the values of a tensor of the element type that counts here, or of integers."""
        if name not in self._attributes:
            return ()
        tensor = self._attributes[name].t
        if tensor.data_type not in (UINT8, DOUBLE if self.double else FLOAT):
            raise NotCompiledError(f"{name} is of another type than the table")
        values = constant_values(tensor, most=MOST_NODES)
        if values is None:
            raise NotCompiledError(f"{name} cannot be read")
        return values


def _classifier(given: _Given, place: int, width: int) -> Ensemble:
    if place != 1:
        raise NotCompiledError("a label is no score")
    classes = len(given.ints("classlabels_int64s") or given.texts("classlabels_strings"))
    weights = _weights(given, "class")
    trees = _trees(given, weights, width)
    base = given.floats("base_values")
    post = _post(given.text("post_transform", "NONE"))
    if given.text("aggregate_function", "SUM") != "SUM":
        raise NotCompiledError("a classifier that does not add")
    if classes > 2:
        return _ensemble(given, trees, width, classes, Aggregate.SUM, base, post)
    if classes < 2:
        raise NotCompiledError("it has one class")
    return _two_classes(given, trees, weights, base, post, width)


def _two_classes(
    given: _Given, trees: tuple[Tree, ...], weights: "_Weights", base: tuple[float, ...], post: Finish, width: int
) -> Ensemble:
    first, second = (_scored(trees, target) for target in range(2))
    if second is None or len(base) > 1 or (base and not first):
        raise NotCompiledError("its two classes have base values or weights that are read in more than one way")
    if second:
        both = (*base, 0.0) if base else ()
        return _ensemble(given, trees, width, 2, Aggregate.SUM, both, post)
    if not first:
        raise NotCompiledError("not every row has a number for a class")
    positive = all(weight >= 0 for leaf in weights.values() for _, weight in leaf)
    plain = Finish.COMPLEMENT if positive else Finish.OPPOSITE
    finish = Finish.TWO_LOGISTICS if post == "LOGISTIC" else plain
    return _ensemble(given, trees, width, 1, Aggregate.SUM, base, finish, columns=2)


def _regressor(given: _Given, _place: int, width: int) -> Ensemble:
    trees = _trees(given, _weights(given, "target"), width)
    aggregate = Aggregate(given.text("aggregate_function", "SUM"))
    post = _post(given.text("post_transform", "NONE"))
    return _regression(given, trees, width, given.number("n_targets", 1), aggregate, given.floats("base_values"), post)


def _post(name: str) -> Finish:
    if name not in (Finish.NONE, Finish.LOGISTIC, Finish.SOFTMAX):
        raise NotCompiledError(f"its post_transform is {name}")
    return Finish(name)


def _regression(
    given: _Given,
    trees: tuple[Tree, ...],
    width: int,
    targets: int,
    aggregate: Aggregate,
    base: tuple[float, ...],
    post: Finish,
) -> Ensemble:
    if targets == 1:
        post = Finish.NONE  # onnxruntime applies none but PROBIT to a single target
    if base and not all(_scored(trees, target) for target in range(targets)):
        raise NotCompiledError("it has base values, and not every row has a number for each target")
    return _ensemble(given, trees, width, targets, aggregate, base, post)


def _ensemble(
    given: _Given,
    trees: tuple[Tree, ...],
    width: int,
    targets: int,
    aggregate: Aggregate,
    base: tuple[float, ...],
    finish: Finish,
    *,
    columns: int | None = None,
    double_answer: bool = False,
) -> Ensemble:
    if len(base) not in (0, targets):
        raise NotCompiledError(f"it has {len(base)} base values for {targets} numbers")
    if any(value == 0.0 and math.copysign(1.0, value) < 0 for value in base):
        raise NotCompiledError("a base value is -0.0")
    if any(not 0 <= target < targets for tree in trees for node in tree for target, _ in _of_leaf(node)):
        raise NotCompiledError("a leaf names a target that is not there")
    adds = aggregate in (Aggregate.SUM, Aggregate.AVERAGE)
    if not adds and not all(_scored(trees[:1], target) for target in range(targets)):
        raise NotCompiledError("not every row has a number for each target in the first tree")
    if not adds and any(_doubled(node) for tree in trees for node in tree):
        raise NotCompiledError("a leaf has two numbers for one target, of which the least or largest counts")
    if targets == 1 and not all(_of_leaf(node) for tree in trees for node in tree if isinstance(node, Leaf)):
        raise NotCompiledError("it has a leaf without a weight")
    return Ensemble(trees, width, targets, aggregate, base, finish, columns or targets, given.double, double_answer)


MODES = (
    Compare.BRANCH_LEQ,
    Compare.BRANCH_LT,
    Compare.BRANCH_GTE,
    Compare.BRANCH_GT,
    Compare.BRANCH_EQ,
    Compare.BRANCH_NEQ,
)
POSTS = ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT")
"""As onnxruntime counts them; ONNX itself has SOFTMAX before LOGISTIC."""
AGGREGATES = (Aggregate.AVERAGE, Aggregate.SUM, Aggregate.MIN, Aggregate.MAX)


def _ensemble_of_opset_5(given: _Given, _place: int, width: int) -> Ensemble:
    modes = [int(mode) for mode in given.tensor("nodes_modes")]
    splits, leaves = given.tensor("nodes_splits"), given.tensor("leaf_weights")
    if any(mode >= len(MODES) for mode in modes):
        raise NotCompiledError("it has set membership nodes")
    if any(value != value for value in (*splits, *leaves)):  # noqa: PLR0124  # not a number
        raise NotCompiledError("it has a value that is not a number")
    features, missing = given.ints("nodes_featureids"), given.ints("nodes_missing_value_tracks_true")
    ways = [(given.ints(f"nodes_{which}nodeids"), given.ints(f"nodes_{which}leafs")) for which in ("true", "false")]
    nodes: list[Leaf | Branch] = [
        Branch(
            features[place],
            MODES[mode],
            splits[place],
            bool(missing and missing[place] == 1),
            *(ids[place] + len(modes) * bool(leaf[place]) for ids, leaf in ways),
        )
        for place, mode in enumerate(modes)
    ]
    targets = given.ints("leaf_targetids")
    nodes += [Leaf(((target, weight),)) for target, weight in zip(targets, leaves, strict=True)]
    roots = given.ints("tree_roots")
    for root in roots:
        node = nodes[root]
        if isinstance(node, Branch) and node.yes == node.no:
            raise NotCompiledError("a tree is a leaf alone")
    trees = tuple(_cut(nodes, root, width) for root in roots)
    ensemble = _regression(
        given,
        trees,
        width,
        given.number("n_targets", 1),
        AGGREGATES[given.number("aggregate_function", 1)],
        (),
        _post(POSTS[given.number("post_transform", 0)]),
    )
    return replace(ensemble, double_answer=given.double)


READERS = {
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
    "TreeEnsemble": _ensemble_of_opset_5,
}


_Weights = Mapping[tuple[int, int], Sequence[tuple[int, float]]]
"""Tree and node -> what the leaf adds, in the file's order."""


def _weights(given: _Given, kind: str) -> _Weights:
    found: dict[tuple[int, int], list[tuple[int, float]]] = {}
    trees, nodes = given.ints(f"{kind}_treeids"), given.ints(f"{kind}_nodeids")
    ids, weights = given.ints(f"{kind}_ids"), given.floats(f"{kind}_weights")
    for tree, node, target, weight in zip(trees, nodes, ids, weights, strict=True):
        found.setdefault((tree, node), []).append((target, weight))
    return found


def _trees(given: _Given, weights: _Weights, width: int) -> tuple[Tree, ...]:
    trees, ids = given.ints("nodes_treeids"), given.ints("nodes_nodeids")
    places = {key: place for place, key in enumerate(zip(trees, ids, strict=True))}
    features, values = given.ints("nodes_featureids"), given.floats("nodes_values")
    modes, missing = given.texts("nodes_modes"), given.ints("nodes_missing_value_tracks_true")
    yes, no = given.ints("nodes_truenodeids"), given.ints("nodes_falsenodeids")
    roots = [place for place, tree in enumerate(trees) if place == 0 or trees[place - 1] != tree]
    if len(roots) != len(set(trees)) or len(places) != len(trees):
        raise NotCompiledError("the nodes of a tree do not stand together")
    nodes: list[Leaf | Branch] = []
    for place, tree in enumerate(trees):
        if modes[place] == "LEAF":
            nodes.append(Leaf(tuple(weights.get((tree, ids[place]), ()))))
            continue
        if modes[place] not in Compare.__members__:
            raise NotCompiledError(f"it has nodes of the mode {modes[place]}")
        left, right = (places.get((tree, way[place]), -1) for way in (yes, no))
        tracked = place < len(missing) and missing[place] == 1
        nodes.append(Branch(features[place], Compare[modes[place]], values[place], tracked, left, right))
    return tuple(_cut(nodes, root, width) for root in roots)


def _cut(nodes: Sequence[Leaf | Branch], root: int, width: int) -> Tree:
    """Return the tree under a root, its places counted from it; each node has one way to it."""
    order: list[int] = []
    waiting = [root]
    seen: set[int] = set()
    while waiting:
        place = waiting.pop()
        if place in seen or not 0 <= place < len(nodes):
            raise NotCompiledError("its nodes make no tree")
        seen.add(place)
        order.append(place)
        node = nodes[place]
        if isinstance(node, Branch):
            if not 0 <= node.feature < width:
                raise NotCompiledError(f"it reads feature {node.feature} of {width}")
            waiting += [node.no, node.yes]
            _refuse_merged(node, nodes)
    new = {place: number for number, place in enumerate(order)}
    return tuple(_moved(nodes[place], new) for place in order)


def _moved(node: Leaf | Branch, new: Mapping[int, int]) -> Leaf | Branch:
    if isinstance(node, Leaf):
        return node
    return Branch(node.feature, node.compare, node.threshold, node.missing_is_yes, new[node.yes], new[node.no])


def _refuse_merged(node: Branch, nodes: Sequence[Leaf | Branch]) -> None:
    """Refuse two comparisons for equality in a row with one feature: onnxruntime makes a set of their thresholds.

    A value between two members of that set is rounded before it is looked up, so that the answer is another one.
    """
    after = nodes[node.no] if 0 <= node.no < len(nodes) else None
    if not isinstance(after, Branch) or after.feature != node.feature:
        return
    if node.compare is after.compare is Compare.BRANCH_EQ:
        raise NotCompiledError("it has sets of values (BRANCH_EQ in a row)")


def _of_leaf(node: Leaf | Branch) -> tuple[tuple[int, float], ...]:
    return node.weights if isinstance(node, Leaf) else ()


def _doubled(node: Leaf | Branch) -> bool:
    named = [target for target, _ in _of_leaf(node)]
    return len(set(named)) < len(named)


def _scored(trees: Sequence[Tree], target: int) -> bool | None:
    """Whether every row gets a number for a target (True), none does (False), or it depends on the row (None)."""
    found = False
    for tree in trees:
        leaves = [any(one == target for one, _ in node.weights) for node in tree if isinstance(node, Leaf)]
        if all(leaves):
            return True
        found = found or any(leaves)
    return None if found else False
