"""Fitted classifiers of four libraries' kinds, exported, with what their comparison with the ONNX files takes.

A `Case` holds the estimator, its loaded ONNX model and its split thresholds. Everything is seeded, and fitted on a few
thousand rows, so that a test run takes seconds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import lightgbm
import numpy as np
from numpy.typing import NDArray
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LightGBMFloat
from skl2onnx import to_onnx
from skl2onnx.common._container import ModelComponentContainer
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from muse_stream.models import OnnxModel, load_model
from tests.models.onnx_factory import LIMIT, spec_of

WIDTH = 8
Table = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One estimator and its ONNX file."""

    estimator: Any
    model: OnnxModel
    thresholds: tuple[tuple[int, float], ...] = ()
    """(feature, threshold) of every split, in the library's own float64."""

    def library(self, features: Table) -> NDArray[np.float64]:
        """Positive probabilities by the library itself, in float64."""
        answers: NDArray[np.float64] = self.estimator.predict_proba(features)[:, 1]
        return answers

    def onnx(self, features: Table) -> NDArray[np.float64]:
        return self.model.predict([features.astype(self.model.inputs[0].dtype)])

    def crossed(self, features: Table) -> NDArray[np.bool_]:
        """Rows in which a feature lies on another side of a threshold once both are rounded to float32."""
        result = np.zeros(len(features), dtype=np.bool_)
        for feature, threshold in self.thresholds:
            column = features[:, feature]
            result |= (column <= threshold) != (column.astype(np.float32) <= np.float32(threshold))
        return result


def transactions(count: int, seed: int = 11) -> tuple[Table, NDArray[np.int64]]:
    """`[count, 8]` features of very different scales, and labels that a model can learn in part."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, WIDTH))
    features[:, 0] = np.round(np.exp(3.0 + features[:, 0]), 2)  # an amount in cents
    features[:, 1] = random.poisson(3.0, count)
    features[:, 2] = features[:, 2] > 0
    margin = 1.5 * (features[:, 0] > 40) + features[:, 3] * features[:, 4] - 0.3 * features[:, 1]
    return features, (margin + random.logistic(size=count) > 1.0).astype(np.int64)


def _fit(estimator: Any, rows: int = 3000) -> Any:
    features, labels = transactions(rows)
    return estimator.fit(features, labels)


def _load(proto: Any) -> OnnxModel:
    data = proto.SerializeToString()
    return load_model(data, spec_of(data, {"features": WIDTH}).model_copy(update={"backend": "auto"}), max_bytes=LIMIT)


def _sklearn(estimator: Any, kind: Any = FloatTensorType) -> OnnxModel:
    options = {id(estimator): {"zipmap": False}}
    return _load(to_onnx(estimator, initial_types=[("features", kind([None, WIDTH]))], options=options))


def lightgbm_case() -> Case:
    estimator = _fit(lightgbm.LGBMClassifier(n_estimators=30, num_leaves=15, n_jobs=1, verbose=-1, random_state=1))
    proto = convert_lightgbm(estimator, initial_types=[("features", LightGBMFloat([None, WIDTH]))], zipmap=False)
    return Case(estimator, _load(proto), tuple(_lightgbm_splits(estimator)))


def _lightgbm_splits(estimator: Any) -> Iterator[tuple[int, float]]:
    nodes = [tree["tree_structure"] for tree in estimator.booster_.dump_model()["tree_info"]]
    while nodes:
        node = nodes.pop()
        if "threshold" in node:
            yield node["split_feature"], node["threshold"]
            nodes += [node["left_child"], node["right_child"]]


def gradient_boosting_case() -> Case:
    estimator = _fit(GradientBoostingClassifier(n_estimators=20, random_state=1))
    splits = (
        (int(feature), float(threshold))
        for tree in estimator.estimators_.ravel()
        for feature, threshold in zip(tree.tree_.feature, tree.tree_.threshold, strict=True)
        if feature >= 0
    )
    return Case(estimator, _sklearn(estimator), tuple(splits))


def hist_gradient_boosting_case() -> Case:
    estimator = _fit(HistGradientBoostingClassifier(max_iter=20, random_state=1))
    splits = (
        (int(node["feature_idx"]), float(node["num_threshold"]))
        for (predictor,) in estimator._predictors
        for node in predictor.nodes
        if not node["is_leaf"]
    )
    add_node = ModelComponentContainer.add_node

    def with_integers(self: Any, *args: Any, **attributes: Any) -> Any:
        # skl2onnx 1.20 writes Python booleans into an integer attribute, which protobuf 7 refuses.
        flags = attributes.get("nodes_missing_value_tracks_true")
        if flags is not None:
            attributes["nodes_missing_value_tracks_true"] = [int(flag) for flag in flags]
        return add_node(self, *args, **attributes)

    with patch.object(ModelComponentContainer, "add_node", with_integers):
        return Case(estimator, _sklearn(estimator), tuple(splits))


def logistic_pipeline() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression())


def network_pipeline() -> Pipeline:
    # A tolerance that stops it after a few epochs: a network that answers is wanted, not a good one.
    network = MLPClassifier((32, 16), max_iter=200, tol=1e-3, n_iter_no_change=3, random_state=1)
    return make_pipeline(StandardScaler(), network)


def pipeline_case(pipeline: Pipeline, kind: Any) -> Case:
    _fit(pipeline)
    return Case(pipeline, _sklearn(pipeline, kind))


CASES: dict[str, Callable[[], Case]] = {
    "lightgbm": lightgbm_case,
    "gradient-boosting": gradient_boosting_case,
    "hist-gradient-boosting": hist_gradient_boosting_case,
    "logistic": lambda: pipeline_case(logistic_pipeline(), FloatTensorType),
    "logistic-double": lambda: pipeline_case(logistic_pipeline(), DoubleTensorType),
    "network": lambda: pipeline_case(network_pipeline(), FloatTensorType),
    "network-double": lambda: pipeline_case(network_pipeline(), DoubleTensorType),
}
