"""Random tree ensembles as ONNX nodes, and rows that stand on their thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
POSTS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
KINDS = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    "int64": TensorProto.INT64,
    "int32": TensorProto.INT32,
}
DTYPES: dict[str, Any] = {"float": np.float32, "double": np.float64, "int64": np.int64, "int32": np.int32}
WIDTH = 5
ROWS = (1, 2, 15, 16, 17, 49, 50, 51, 127, 128, 129, 256, 1000)
"""Sizes of batches: onnxruntime and the compiled code go through rows in blocks of 16, 50 or 128."""
OPSETS = [helper.make_opsetid("", 19), helper.make_opsetid("ai.onnx.ml", 5)]
OLD = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 3)]


@dataclass(frozen=True)
class Shape:
    """What kind of forest is wanted."""

    operator: str
    targets: int
    named: str
    """Which targets a leaf adds to: "first", "last", "all" or "any" (one of them, by chance)."""
    post: str
    aggregate: str
    base: int
    """How many base values."""
    trees: int
    depth: int
    modes: tuple[str, ...]
    missing: bool
    positive: bool
    """Whether all weights are."""
    kind: str
    tensors: bool
    """Whether an ensemble of doubles has its numbers in tensors of doubles."""
    rows: int
    seed: int

    @classmethod
    def random(cls, seed: int) -> "Shape":
        """Any shape that the operators have, and some that onnxruntime refuses."""
        random = np.random.default_rng(seed)
        operator = str(random.choice(["TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble"]))
        classifier, latest = operator == "TreeEnsembleClassifier", operator == "TreeEnsemble"
        targets = int(random.choice([2, 2, 2, 3, 5] if classifier else [1, 1, 2, 3]))
        kinds = {"TreeEnsembleClassifier": list(KINDS), "TreeEnsembleRegressor": ["float", "float", "double"]}
        return cls(
            operator=operator,
            targets=targets,
            named=str(random.choice(["first", "any"] if latest else ["first", "last", "all", "any"])),
            post=str(random.choice(POSTS, p=[0.3, 0.3, 0.3, 0.05, 0.05])),
            aggregate="SUM" if classifier else str(random.choice(AGGREGATES)),
            base=0 if latest else int(random.choice([0, 0, 1, targets])),
            trees=int(random.choice([1, 2, 10, 79, 80, 81, 130])),
            depth=int(random.integers(0, 6)),
            modes=("BRANCH_LEQ",) if random.random() < 0.4 else tuple(map(str, random.choice(MODES, 3))),
            missing=bool(random.random() < 0.5),
            positive=bool(random.random() < 0.4),
            kind=str(random.choice(kinds.get(operator, ["float", "double"]))),
            tensors=bool(random.random() < 0.5),
            rows=int(random.choice(ROWS)),
            seed=seed,
        )


class Forest:
    """One random forest of a shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._random = np.random.default_rng(shape.seed)
        wide = shape.kind == "double" and (shape.tensors or shape.operator == "TreeEnsemble")
        self._dtype = np.float64 if wide else np.float32
        fixed = [0.0, 1.0, -1.0, 0.5, 2.0, 3.0, 1e-3, 7.0, -0.0, 1e-42, 3e38]
        self.pool = np.array([*fixed, *self._random.normal(size=3)]).astype(self._dtype)
        self._trees = [self._grown() for _ in range(shape.trees)]
        self._base = self._random.normal(size=shape.base).astype(self._dtype).tolist()

    def _grown(self) -> list[tuple[Any, ...]]:
        nodes: list[tuple[Any, ...]] = []

        def grow(depth: int) -> int:
            me = len(nodes)
            nodes.append(())
            if depth == 0 or (me and self._random.random() < 0.15):
                nodes[me] = ("LEAF", 0, 0.0, 0, 0, 0, self._weights())
                return me
            yes, no = grow(depth - 1), grow(depth - 1)
            mode = str(self._random.choice(self.shape.modes))
            tracks = int(self.shape.missing and self._random.random() < 0.5)
            feature, value = int(self._random.integers(WIDTH)), float(self._random.choice(self.pool))
            nodes[me] = (mode, feature, value, yes, no, tracks, ())
            return me

        grow(self.shape.depth if self.shape.operator != "TreeEnsemble" else max(self.shape.depth, 1))
        return nodes

    def _weights(self) -> list[tuple[int, float]]:
        targets, named = self.shape.targets, self.shape.named
        chosen = {"first": [0], "last": [targets - 1], "all": list(range(targets))}
        ids = chosen.get(named) or [int(self._random.integers(targets))]
        values = self._random.normal(size=len(ids)) * self._random.choice([0.0, 1.0, 1e-4, 30.0])
        if self.shape.positive:
            values = np.abs(values)
        return list(zip(ids, values.astype(self._dtype).tolist(), strict=True))

    def model(self) -> Any:
        """The file: one node."""
        shape = self.shape
        if shape.operator == "TreeEnsemble":
            node = helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **self._of_opset_5())
        else:
            outputs = ["label", "y"] if shape.operator == "TreeEnsembleClassifier" else ["y"]
            node = helper.make_node(shape.operator, ["x"], outputs, domain="ai.onnx.ml", **self._of_opset_3())
        answer = KINDS[shape.kind] if shape.operator == "TreeEnsemble" else TensorProto.FLOAT
        graph = helper.make_graph(
            [node],
            "forest",
            [helper.make_tensor_value_info("x", KINDS[shape.kind], [None, WIDTH])],
            [helper.make_tensor_value_info("y", answer, [None, None])],
        )
        opsets = OPSETS if shape.operator == "TreeEnsemble" else OLD
        return helper.make_model(graph, opset_imports=opsets, ir_version=9)

    def _of_opset_3(self) -> Mapping[str, Any]:
        rows = [(tree, place, *node) for tree, nodes in enumerate(self._trees) for place, node in enumerate(nodes)]
        names = ("treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids")
        found: dict[str, Any] = {f"nodes_{name}": [row[place] for row in rows] for place, name in enumerate(names)}
        if self.shape.missing:
            found["nodes_missing_value_tracks_true"] = [row[7] for row in rows]
        classifier = self.shape.operator == "TreeEnsembleClassifier"
        prefix = "class" if classifier else "target"
        leaves = [(row[0], row[1], target, weight) for row in rows for target, weight in row[8]]
        for place, name in enumerate(("treeids", "nodeids", "ids", "weights")):
            found[f"{prefix}_{name}"] = [leaf[place] for leaf in leaves]
        if self.shape.base:
            found["base_values"] = self._base
        found["post_transform"] = self.shape.post
        if classifier:
            found["classlabels_int64s"] = list(range(self.shape.targets))
        else:
            found |= {"n_targets": self.shape.targets, "aggregate_function": self.shape.aggregate}
        if self._dtype is np.float64:
            for name in ("nodes_values", f"{prefix}_weights", "base_values"):
                if name in found:
                    values = found.pop(name)
                    found[f"{name}_as_tensor"] = helper.make_tensor(name, TensorProto.DOUBLE, [len(values)], values)
        return found

    def _of_opset_5(self) -> Mapping[str, Any]:
        branches: list[tuple[Any, ...]] = []
        leaves: list[tuple[int, float]] = []
        roots, places = [], {}
        for tree, nodes in enumerate(self._trees):
            for place, node in enumerate(nodes):
                if node[0] == "LEAF":
                    places[tree, place] = (len(leaves), 1)
                    leaves.append(node[6][0])
                else:
                    places[tree, place] = (len(branches), 0)
                    branches.append((tree, *node))
            roots.append(places[tree, 0][0])
        ways = {
            way: [places[branch[0], branch[column]] for branch in branches]
            for way, column in (("true", 4), ("false", 5))
        }
        number = KINDS[self.shape.kind]
        modes = [MODES.index(branch[1]) for branch in branches]
        found: dict[str, Any] = {
            "nodes_modes": helper.make_tensor("modes", TensorProto.UINT8, [len(modes)], modes),
            "nodes_splits": helper.make_tensor("splits", number, [len(modes)], [branch[3] for branch in branches]),
            "nodes_featureids": [branch[2] for branch in branches],
            "leaf_targetids": [target for target, _ in leaves],
            "leaf_weights": helper.make_tensor("leaves", number, [len(leaves)], [weight for _, weight in leaves]),
            "tree_roots": roots,
            "n_targets": self.shape.targets,
            "aggregate_function": AGGREGATES.index(self.shape.aggregate),
            "post_transform": POSTS.index(self.shape.post),
        }
        for way, targets in ways.items():
            found[f"nodes_{way}nodeids"] = [place for place, _ in targets]
            found[f"nodes_{way}leafs"] = [leaf for _, leaf in targets]
        if self.shape.missing:
            found["nodes_missing_value_tracks_true"] = [branch[6] for branch in branches]
        return found

    def rows(self) -> NDArray[Any]:
        """Rows on, beside and far from thresholds; missing, infinite, zero and denormal."""
        random, size = self._random, (self.shape.rows, WIDTH)
        dtype = DTYPES[self.shape.kind]
        if np.dtype(dtype).kind == "i":
            near = random.integers(-4, 9, size)
            return np.where(random.random(size) < 0.2, random.integers(-(2**31), 2**31, size), near).astype(dtype)
        pool = self.pool.astype(dtype)
        with np.errstate(over="ignore"):
            beside = np.concatenate([pool, np.nextafter(pool, dtype(np.inf)), np.nextafter(pool, dtype(-np.inf))])
        tiny = np.finfo(dtype).smallest_subnormal
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, 2.5, 1.5], dtype=dtype)
        table = random.normal(size=size).astype(dtype)
        kind = random.random(size)
        table = np.where(kind < 0.4, random.choice(beside, size), table)
        return np.where(kind > 0.8, random.choice(special, size), table)


def onnxruntime_session(model: Any) -> Any:
    """onnxruntime as the product runs it; raises what it raises."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two arrays agree in every bit, any NaN being as good as another."""
    missing = np.isnan(one)
    whole = np.dtype(f"i{one.dtype.itemsize}")
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and bool((missing == np.isnan(other)).all())
        and bool((one.view(whole)[~missing] == other.view(whole)[~missing]).all())
    )
