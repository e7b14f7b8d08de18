"""Compiled code against onnxruntime, bit for bit, over random forests of every kind that the operators have.

Rows stand on, beside and between the forests' own thresholds, are missing, infinite, zero and denormal. Both forms of
the code are tried: nested ifs, which serve at once, and the one without branches, which takes their place.
"""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.models.compiled import Ensemble, NotCompiledError, native, read_ensemble
from muse_stream.models.compiled.trees import CompiledTrees
from tests.models.compiled.forests import AGGREGATES, MODES, ROWS, WIDTH, Forest, Shape, onnxruntime_session, same_bits

PLAIN = Shape(
    operator="TreeEnsembleClassifier",
    targets=2,
    named="first",
    post="LOGISTIC",
    aggregate="SUM",
    base=0,
    trees=20,
    depth=5,
    modes=("BRANCH_LEQ",),
    missing=False,
    positive=False,
    kind="float",
    tensors=False,
    rows=300,
    seed=7,
)


def read(forest: Forest) -> Ensemble:
    node = forest.model().graph.node[0]
    return read_ensemble(node, list(node.output).index("y"), WIDTH, double=forest.shape.kind == "double")


def outcome(shape: Shape) -> str:
    """Compare one forest; "same" where it is compiled, else why it is not."""
    forest = Forest(shape)
    try:
        session = onnxruntime_session(forest.model())
    except Exception:  # noqa: BLE001  # its exceptions share no base class
        return "refused by onnxruntime"
    try:
        trees = CompiledTrees(read(forest), None)
    except NotCompiledError as error:
        return str(error)
    rows = forest.rows()
    expected = session.run(["y"], {"x": rows})[0]
    assert same_bits(expected, trees.answer(rows)), shape
    trees.exchange(native.object_code(trees.text, optimised=True))
    assert same_bits(expected, trees.answer(rows)), f"optimised: {shape}"
    return "same"


@given(st.integers(0, 2**40))
@settings(deadline=None)
def test_a_random_forest_has_the_bits_of_onnxruntime(seed: int) -> None:
    shape = Shape.random(seed)
    outcome(replace(shape, depth=seed % 5, trees=min(shape.trees, 12)))


def test_most_random_forests_are_compiled() -> None:
    """A reader that refused everything would agree with onnxruntime, too."""
    found = Counter(_read_only(seed) for seed in range(60))
    assert found["compiled"] > found.total() / 3, found


def _read_only(seed: int) -> str:
    try:
        read(Forest(replace(Shape.random(seed), trees=2)))
    except NotCompiledError as error:
        return str(error)
    return "compiled"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_thousands_of_random_forests_have_the_bits_of_onnxruntime(part: int) -> None:
    found = Counter(outcome(Shape.random(seed)) for seed in range(part * 500, (part + 1) * 500))
    assert found["same"] > 200, found


@pytest.mark.parametrize("rows", ROWS)
def test_every_size_of_a_batch(rows: int) -> None:
    assert outcome(replace(PLAIN, rows=rows, trees=3, seed=rows)) == "same"


@pytest.mark.parametrize("mode", MODES)
def test_every_comparison_with_missing_values_either_way(mode: str) -> None:
    assert (
        outcome(replace(PLAIN, modes=(mode,), missing=True, trees=3, depth=1 if mode == "BRANCH_EQ" else 4)) == "same"
    )


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("named", ["first", "last", "all"])
@pytest.mark.parametrize("positive", [False, True])
def test_two_classes_in_every_form(post: str, named: str, positive: bool) -> None:
    shape = replace(PLAIN, post=post, named=named, positive=positive, trees=3, depth=3)
    assert outcome(shape) == "same"
    if named != "last":
        assert outcome(replace(shape, base=1)) == "same"


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("base", [False, True])
def test_every_aggregate_function(aggregate: str, targets: int, base: bool) -> None:
    shape = replace(PLAIN, operator="TreeEnsembleRegressor", aggregate=aggregate, post="NONE", named="all", trees=3)
    assert outcome(replace(shape, targets=targets, base=targets if base else 0)) == "same"


@pytest.mark.parametrize("kind", ["float", "double", "int64", "int32"])
@pytest.mark.parametrize("tensors", [False, True])
def test_every_type_of_table(kind: str, tensors: bool) -> None:
    assert outcome(replace(PLAIN, kind=kind, tensors=tensors, trees=5)) == "same"


@pytest.mark.parametrize("depth", [6, 7, 11])
def test_trees_of_many_leaves(depth: int) -> None:
    """Of some dozens, of more than a word of bits has, and of more than the form without branches takes."""
    assert outcome(replace(PLAIN, depth=depth, trees=2)) == "same"


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        (replace(PLAIN, post="PROBIT"), "its post_transform is PROBIT"),
        (replace(PLAIN, base=2), "base values or weights that are read in more than one way"),
        (replace(PLAIN, named="any", depth=3, trees=9), "weights that are read in more than one way"),
        (replace(PLAIN, modes=("BRANCH_EQ",), trees=40), "sets of values"),
        (
            replace(PLAIN, operator="TreeEnsembleRegressor", aggregate="MIN", targets=3, named="any", post="NONE"),
            "not every row has a number for each target",
        ),
    ],
)
def test_what_is_not_known_to_be_the_same_stays_with_onnxruntime(shape: Shape, why: str) -> None:
    with pytest.raises(NotCompiledError, match=why):
        read(Forest(shape))
