"""ONNX files against the libraries they come from, and the same bits in any batch, for every kind of model.

An exporter rounds split thresholds to float32, and rows are fed as float32: a row may then stand on the other side of a
split and get a visibly different score. Such rows are counted and each must be explained by a feature that crosses a
threshold in the rounding; no other row may differ.
"""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.models.libraries import CASES, WIDTH, Case, transactions

TREES = ("lightgbm", "gradient-boosting", "hist-gradient-boosting")
TOLERANCE = 1e-6


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


@pytest.fixture(scope="module", params=TREES)
def trees(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def _unexplained(case: Case, features: NDArray[np.float64]) -> tuple[int, int]:
    """How many rows differ by more than the tolerance, and how many of them no rounded threshold explains."""
    differs = np.abs(case.onnx(features) - case.library(features)) > TOLERANCE
    return int(differs.sum()), int((differs & ~case.crossed(features)).sum())


def test_answers_are_the_librarys(case: Case) -> None:
    features, _ = transactions(20_000, seed=5)
    differing, unexplained = _unexplained(case, features)
    assert unexplained == 0
    assert differing <= 10  # of 20,000: near-ties with a threshold are rare in real data
    if not case.thresholds:
        assert differing == 0


def test_answers_are_no_constant(case: Case) -> None:
    features, labels = transactions(5_000, seed=6)
    answers = case.onnx(features)
    assert answers[labels == 1].mean() > answers[labels == 0].mean() + 0.05


def test_rows_on_a_rounded_threshold_are_the_only_ones_to_differ(trees: Case) -> None:
    # Rows made to stand one step of float64 above a threshold: the library goes right, the rounded file goes left.
    splits = trees.thresholds[:300]
    features, _ = transactions(len(splits), seed=8)
    for row, (feature, threshold) in enumerate(splits):
        features[row, feature] = np.nextafter(threshold, np.inf)
    crossed = trees.crossed(features)
    assert crossed.any()
    differing, unexplained = _unexplained(trees, features)
    assert unexplained == 0
    assert differing <= crossed.sum()


def test_missing_values_go_where_the_library_sends_them() -> None:
    features, _ = transactions(4_000, seed=9)
    features[np.random.default_rng(3).random(features.shape) < 0.2] = np.nan
    for kind in ("lightgbm", "hist-gradient-boosting"):
        case = CASES[kind]()
        # Fitted without missing values: each library still has a rule, and the file must hold it.
        assert _unexplained(case, features)[1] == 0, kind


SIZES = (*range(1, 70), 100, 127, 128, 129, 183, 255, 256, 257, 511, 999, 1000, 1024, 2047, 4095, 4096)


def test_the_same_row_gets_the_same_bits_in_any_batch(case: Case) -> None:
    features, _ = transactions(4_096 + 4_096 + 1, seed=4)
    table = features.astype(case.model.inputs[0].dtype)
    whole = case.model.predict([table])
    for size in SIZES:
        for start in {0, 1, 7, 4_096 - size // 2, len(table) - size}:
            part = case.model.predict([table[start : start + size]])
            assert part.tobytes() == whole[start : start + size].tobytes(), (size, start)


def test_a_row_alone_gets_the_same_bits(case: Case) -> None:
    # Without padding a linear classifier differs here in the last bit for one row in five.
    features, _ = transactions(300, seed=12)
    table = features.astype(case.model.inputs[0].dtype)
    alone = np.concatenate([case.model.predict([table[row : row + 1]]) for row in range(len(table))])
    assert alone.tobytes() == case.model.predict([table]).tobytes()


def test_the_same_row_gets_the_same_bits_among_other_rows(case: Case) -> None:
    features, _ = transactions(500, seed=2)
    table = features.astype(case.model.inputs[0].dtype)
    whole = case.model.predict([table])
    random = np.random.default_rng(1)
    for _ in range(20):
        order = random.permutation(len(table))[: random.integers(1, len(table))]
        assert case.model.predict([table[order]]).tobytes() == whole[order].tobytes()


def test_one_row_asked_again_and_again_keeps_its_bits(case: Case) -> None:
    row = transactions(1, seed=3)[0].astype(case.model.inputs[0].dtype)
    first = case.model.predict([row])
    assert first.shape == (1,)
    assert all(case.model.predict([row]).tobytes() == first.tobytes() for _ in range(50))
    assert case.model.predict([np.repeat(row, WIDTH, axis=0)]).tobytes() == first.tobytes() * WIDTH
