"""Fit and export the two kinds of experts (requires the `train` extra; imported by training.py when it trains).

A float32 table `[N, F]` and labels of 0 and 1 give the bytes of an ONNX file. Same table, same bytes (with the same
library versions); input `features`, output `probabilities`, standard operators only, no ZipMap.
"""

import warnings

import lightgbm
import numpy as np
from numpy.typing import NDArray
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType as LightGBMFloat
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from muse_stream.errors import MuseError

INPUT = "features"
OPSET = 15
"""Old enough for every runtime in use; the exporters' own default follows the installed onnx."""

Table = NDArray[np.float32]


def trees(table: Table, label: NDArray[np.int64], seed: int, count: int, leaves: int) -> bytes:
    """Fit boosted trees and return their ONNX file."""
    # One thread and a fixed histogram layout: sums in one order, the same file on any machine with these versions.
    model = lightgbm.LGBMClassifier(
        n_estimators=count,
        num_leaves=leaves,
        learning_rate=0.08,
        min_child_samples=20,
        random_state=seed,
        n_jobs=1,
        deterministic=True,
        force_row_wise=True,
        verbose=-1,
    ).fit(table, label)
    types = [(INPUT, LightGBMFloat([None, table.shape[1]]))]
    proto = convert_lightgbm(model, "trees", types, zipmap=False, target_opset=OPSET)
    return bytes(proto.SerializeToString(deterministic=True))


def linear(table: Table, label: NDArray[np.int64]) -> bytes:
    """Fit a scaled logistic regression (missing values become medians) and return its ONNX file.

    Raises MuseError when a coefficient is no finite number.
    """
    # A column without any value would be dropped by the imputer, and the file would then ask for fewer features.
    imputer = SimpleImputer(strategy="median", keep_empty_features=True)
    model = make_pipeline(imputer, StandardScaler(), LogisticRegression(max_iter=300))
    # One BLAS thread, as above: how two threads share a sum may depend on how busy the machine is.
    # BLAS computes in whole vector registers: what lies in their unused lanes may raise "invalid value" for a product
    # of finite numbers. So the result is looked at, and not the processor's flag.
    with threadpool_limits(1), warnings.catch_warnings(), np.errstate(invalid="ignore"):
        # A regression that has not quite converged is a legitimate expert: its scores are mapped to the reference.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(table, label)
    if not (np.isfinite(model[-1].coef_).all() and np.isfinite(model[-1].intercept_).all()):
        raise MuseError("the logistic regression has no finite coefficients: look at the training columns' values")
    proto = to_onnx(
        model,
        name="linear",
        initial_types=[(INPUT, FloatTensorType([None, table.shape[1]]))],
        options={id(model): {"zipmap": False}},
        target_opset=OPSET,
    )
    return bytes(proto.SerializeToString(deterministic=True))
