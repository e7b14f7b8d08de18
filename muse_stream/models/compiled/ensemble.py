"""A tree ensemble of an ONNX file as plain data, or the reason why onnxruntime has to run it.

Three operators of `ai.onnx.ml` are read: TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble (opset 5). The
rules that give onnxruntime's bits are in docs/compiled-trees.md; whatever these rules do not cover is refused here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from muse_stream.models.signature import Bound

FLOAT = 1
"""TensorProto.FLOAT."""
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


@dataclass(frozen=True, slots=True)
class Leaf:
    """Adds to the targets that it names."""

    weights: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """A comparison; `yes` and `no` are places in the tree's list."""

    feature: int
    compare: Compare
    threshold: float
    missing_is_yes: bool
    yes: int
    no: int


Tree = tuple[Leaf | Branch, ...]
"""The root first."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Everything that an answer depends on."""

    trees: tuple[Tree, ...]
    width: int
    targets: int
    """Numbers that the trees add to."""
    aggregate: Aggregate
    base: tuple[float, ...]
    """Added to each target in the end; empty for none."""
    finish: Finish
    columns: int
    """Of the answer."""


class NotCompiledError(Exception):
    """Why an ensemble stays with onnxruntime."""


def read_ensemble(model: Any, output: str, bound: Bound) -> Ensemble:
    """Read what gives `output` from a parsed file; raises NotCompiledError."""
    if len(bound.inputs) != 1 or bound.inputs[0].dtype != np.float32 or bound.flat or bound.batch is not None:
        raise NotCompiledError("it does not take one table of floats with any number of rows")
    producers = {name: (node, place) for node in model.graph.node for place, name in enumerate(node.output)}
    name, place, node = output, 0, None
    while name in producers:
        node, place = producers[name]
        if node.op_type not in ("Identity", "ZipMap") or node.domain not in ("", "ai.onnx", "ai.onnx.ml"):
            break
        name, node = node.input[0], None
    if node is None or node.domain != "ai.onnx.ml" or node.op_type not in READERS:
        raise NotCompiledError(f"the output {output!r} is not the answer of a tree ensemble alone")
    source = node.input[0]
    while source in producers and producers[source][0].op_type == "Identity":
        source = producers[source][0].input[0]
    if source != bound.inputs[0].name:
        raise NotCompiledError("the tree ensemble does not take the file's input as it is")
    attributes = {one.name: one for one in node.attribute}
    return READERS[node.op_type](attributes, place, bound.inputs[0].width)


def _classifier(attributes: Mapping[str, Any], place: int, width: int) -> Ensemble:
    if place != 1:
        raise NotCompiledError("a label is no score")
    labels = _ints(attributes, "classlabels_int64s") or _texts(attributes, "classlabels_strings")
    classes = len(labels)
    weights = _weights(attributes, "class")
    trees = _trees(attributes, weights, width)
    base = _floats(attributes, "base_values")
    post = _text(attributes, "post_transform", "NONE")
    if classes < 2:
        raise NotCompiledError("it has one class")
    scored = [_scored(trees, target) for target in range(classes)]
    ids = {target for leaf in weights.values() for target, _ in leaf}
    if classes > 2:
        if any(always is None for always in scored) or len(base) not in (0, classes):
            raise NotCompiledError("not every row has a number for each class")
        return Ensemble(trees, width, classes, Aggregate.SUM, base, _elementwise(post), classes)
    if len(base) > 1 or scored[0] is not True or scored[1] is None:
        raise NotCompiledError("its two classes have base values or weights that are read in more than one way")
    if scored[1]:
        both = (*base, 0.0) if base else ()
        return Ensemble(trees, width, 2, Aggregate.SUM, both, _elementwise(post), 2)
    positive = all(weight >= 0 for leaf in weights.values() for _, weight in leaf)
    if post == "PROBIT" or post == "SOFTMAX_ZERO" or ids != {0}:
        raise NotCompiledError(f"post_transform {post}")
    plain = Finish.COMPLEMENT if positive else Finish.OPPOSITE
    finish = Finish.TWO_LOGISTICS if post == "LOGISTIC" else plain
    return Ensemble(trees, width, 1, Aggregate.SUM, base, finish, 2)


def _regressor(attributes: Mapping[str, Any], _place: int, width: int) -> Ensemble:
    trees = _trees(attributes, _weights(attributes, "target"), width)
    targets = attributes["n_targets"].i if "n_targets" in attributes else 1
    aggregate = Aggregate(_text(attributes, "aggregate_function", "SUM"))
    post = _text(attributes, "post_transform", "NONE")
    return _regression(trees, width, targets, aggregate, _floats(attributes, "base_values"), post)


def _regression(
    trees: tuple[Tree, ...], width: int, targets: int, aggregate: Aggregate, base: tuple[float, ...], post: str
) -> Ensemble:
    if targets < 1 or not all(_scored(trees, target) for target in range(targets)):
        raise NotCompiledError("not every row has a number for each target")
    if len(base) not in (0, targets):
        raise NotCompiledError("it has another number of base values than of targets")
    if targets == 1 and post != "PROBIT":
        finish = Finish.NONE  # onnxruntime applies no other one to a single target
    else:
        finish = _elementwise(post)
    return Ensemble(trees, width, targets, aggregate, base, finish, targets)


MODES = tuple(Compare)
POSTS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
AGGREGATES = (Aggregate.AVERAGE, Aggregate.SUM, Aggregate.MIN, Aggregate.MAX)


def _ensemble_of_opset_5(attributes: Mapping[str, Any], _place: int, width: int) -> Ensemble:
    modes = _tensor(attributes, "nodes_modes", np.uint8)
    splits = _tensor(attributes, "nodes_splits", np.float32)
    leaves = _tensor(attributes, "leaf_weights", np.float32)
    if any(mode >= len(MODES) for mode in modes):
        raise NotCompiledError("it has set membership nodes")
    features, missing = _ints(attributes, "nodes_featureids"), _ints(attributes, "nodes_missing_value_tracks_true")
    ways = {
        which: (_ints(attributes, f"nodes_{which}nodeids"), _ints(attributes, f"nodes_{which}leafs"))
        for which in ("true", "false")
    }
    targets = _ints(attributes, "leaf_targetids")
    nodes: list[Leaf | Branch] = [
        Branch(
            features[place],
            MODES[mode],
            float(splits[place]),
            bool(missing and missing[place]),
            *(ids[place] + len(modes) * bool(leaf[place]) for ids, leaf in ways.values()),
        )
        for place, mode in enumerate(modes)
    ]
    nodes += [Leaf(((target, float(weight)),)) for target, weight in zip(targets, leaves, strict=True)]
    trees = tuple(_cut(nodes, root, width) for root in _ints(attributes, "tree_roots"))
    post = POSTS[attributes["post_transform"].i if "post_transform" in attributes else 0]
    aggregate = AGGREGATES[attributes["aggregate_function"].i if "aggregate_function" in attributes else 1]
    count = attributes["n_targets"].i if "n_targets" in attributes else 1
    return _regression(trees, width, count, aggregate, (), post)


READERS = {
    "TreeEnsembleClassifier": _classifier,
    "TreeEnsembleRegressor": _regressor,
    "TreeEnsemble": _ensemble_of_opset_5,
}


def _elementwise(post: str) -> Finish:
    if post not in (Finish.NONE, Finish.LOGISTIC, Finish.SOFTMAX):
        raise NotCompiledError(f"post_transform {post}")
    return Finish(post)


def _weights(attributes: Mapping[str, Any], kind: str) -> dict[tuple[int, int], list[tuple[int, float]]]:
    """Tree and node -> what the leaf adds, in the file's order."""
    if any(name.endswith("_as_tensor") for name in attributes):
        raise NotCompiledError("it is of doubles")
    found: dict[tuple[int, int], list[tuple[int, float]]] = {}
    trees, nodes = _ints(attributes, f"{kind}_treeids"), _ints(attributes, f"{kind}_nodeids")
    ids, weights = _ints(attributes, f"{kind}_ids"), _floats(attributes, f"{kind}_weights")
    for tree, node, target, weight in zip(trees, nodes, ids, weights, strict=True):
        found.setdefault((tree, node), []).append((target, weight))
    return found


def _trees(
    attributes: Mapping[str, Any], weights: Mapping[tuple[int, int], Sequence[tuple[int, float]]], width: int
) -> tuple[Tree, ...]:
    trees, ids = _ints(attributes, "nodes_treeids"), _ints(attributes, "nodes_nodeids")
    places = {key: place for place, key in enumerate(zip(trees, ids, strict=True))}
    features, values = _ints(attributes, "nodes_featureids"), _floats(attributes, "nodes_values")
    modes, missing = _texts(attributes, "nodes_modes"), _ints(attributes, "nodes_missing_value_tracks_true")
    yes, no = _ints(attributes, "nodes_truenodeids"), _ints(attributes, "nodes_falsenodeids")
    roots = [place for place, tree in enumerate(trees) if place == 0 or trees[place - 1] != tree]
    if len(roots) != len(set(trees)):
        raise NotCompiledError("the nodes of a tree do not stand together")
    nodes: list[Leaf | Branch] = []
    for place, tree in enumerate(trees):
        if modes[place] == "LEAF":
            nodes.append(Leaf(tuple(weights.get((tree, ids[place]), ()))))
            continue
        ways = (places.get((tree, way[place])) for way in (yes, no))
        left, right = (-1 if way is None else way for way in ways)
        compare = Compare[modes[place]]
        tracked = bool(missing and missing[place])
        nodes.append(Branch(features[place], compare, values[place], tracked, left, right))
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
        elif not node.weights:
            raise NotCompiledError("it has a leaf without a weight")
    if len(order) > MOST_NODES:
        raise NotCompiledError(f"a tree has more than {MOST_NODES:,} nodes")
    new = {place: number for number, place in enumerate(order)}
    return tuple(_moved(nodes[place], new) for place in order)


def _moved(node: Leaf | Branch, new: Mapping[int, int]) -> Leaf | Branch:
    if isinstance(node, Leaf):
        return node
    return Branch(
        node.feature, node.compare, node.threshold, node.missing_is_yes, new[node.yes], new[node.no]
    )


def _scored(trees: Sequence[Tree], target: int) -> bool | None:
    """Whether every row gets a number for a target (True), none does (False), or it depends on the row (None)."""
    found = False
    for tree in trees:
        leaves = [any(one == target for one, _ in node.weights) for node in tree if isinstance(node, Leaf)]
        if all(leaves):
            return True
        found = found or any(leaves)
    return None if found else False


def _ints(attributes: Mapping[str, Any], name: str) -> list[int]:
    return list(attributes[name].ints) if name in attributes else []


def _floats(attributes: Mapping[str, Any], name: str) -> tuple[float, ...]:
    return tuple(attributes[name].floats) if name in attributes else ()


def _texts(attributes: Mapping[str, Any], name: str) -> list[str]:
    return [text.decode() for text in attributes[name].strings] if name in attributes else []


def _text(attributes: Mapping[str, Any], name: str, default: str) -> str:
    return str(attributes[name].s.decode()) if name in attributes else default


def _tensor(attributes: Mapping[str, Any], name: str, dtype: type) -> Any:
    tensor = attributes[name].t
    kinds = {np.uint8: 2, np.float32: FLOAT}
    if tensor.data_type != kinds[dtype]:
        raise NotCompiledError("it is of doubles")
    if tensor.raw_data:
        return np.frombuffer(tensor.raw_data, dtype=np.dtype(dtype).newbyteorder("<"))
    return np.array(tensor.float_data if dtype is np.float32 else tensor.int32_data, dtype=dtype)
