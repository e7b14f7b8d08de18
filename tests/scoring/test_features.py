"""Bindings: by name, in order, with the rules for what is missing."""

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from muse_stream.scoring import Categorical, Column
from muse_stream.scoring.features import Binding, Bound, Feature, Tensor
from muse_stream.scoring.selection import Selection

FLOAT32 = np.dtype(np.float32)
CHANNELS = (("ecom", 1.0), ("pos", 0.0))


def built(features: list[Feature], columns: Mapping[str, Column], rows: list[int] | None = None) -> Bound:
    return build([Tensor(tuple(features), FLOAT32)], columns, rows)


def build(tensors: list[Tensor], columns: Mapping[str, Column], rows: list[int] | None = None) -> Bound:
    first = next(iter(columns.values()))
    size = len(first.codes if isinstance(first, Categorical) else first)
    chosen = np.array(range(size) if rows is None else rows, dtype=np.int64)
    return Binding(tensors).build(columns, Selection(0, chosen, whole=rows is None))


def numbers(*values: float) -> NDArray[np.float64]:
    return np.array(values, dtype=np.float64)


NAN = float("nan")


def test_columns_stand_in_declared_order_in_the_model_s_type() -> None:
    columns: dict[str, Column] = {
        "b": numbers(3.0, 4.0),
        "a": np.array([1, 2]),
        "flag": np.array([True, False]),
    }
    bound = built([Feature("a"), Feature("flag"), Feature("b"), Feature("a")], columns)
    assert bound.tensors[0].tolist() == [[1, 1, 3, 1], [2, 0, 4, 2]]
    assert bound.tensors[0].dtype == np.float32
    assert bound.tensors[0].flags.c_contiguous
    assert bound.missing == {}


def test_several_tensors_each_have_their_own_type() -> None:
    tensors = [Tensor((Feature("a"),), FLOAT32), Tensor((Feature("a", default=7.0),), np.dtype(np.int64))]
    bound = build(tensors, {"a": numbers(1.0, NAN)})
    assert bound.tensors[0].tolist()[0] == [1.0]
    assert bound.tensors[1].tolist() == [[1], [7]]


def test_missing_is_nan_or_the_default_or_a_refusal() -> None:
    columns = {"a": numbers(1.0, NAN, 3.0)}
    assert np.isnan(built([Feature("a")], columns).tensors[0][1, 0])
    assert built([Feature("a", default=9.0)], columns).tensors[0][:, 0].tolist() == [1.0, 9.0, 3.0]
    assert built([Feature("a", required=True)], columns).missing == {1: "a"}


def test_the_first_missing_field_in_declared_order_is_named() -> None:
    columns = {"a": numbers(NAN, 1.0), "b": numbers(NAN, NAN)}
    features = [Feature("b", required=True), Feature("a", required=True)]
    assert built(features, columns).missing == {0: "b", 1: "b"}


def test_strings_go_through_their_table() -> None:
    column = Categorical(("pos", "ecom", "fax", None), np.array([0, 1, 2, 3, -1], dtype=np.int32))
    known = built([Feature("c", categories=CHANNELS)], {"c": column}).tensors[0][:, 0]
    assert known[:2].tolist() == [0.0, 1.0]
    assert np.isnan(known[2:]).all()  # unknown and null strings are missing
    with_other = built([Feature("c", categories=(("*", -1.0), *CHANNELS))], {"c": column}).tensors[0][:, 0]
    assert with_other[:3].tolist() == [0.0, 1.0, -1.0]
    assert np.isnan(with_other[3:]).all()  # null is no string: not even another one
    filled = built([Feature("c", default=5.0, categories=CHANNELS)], {"c": column}).tensors[0][:, 0]
    assert filled.tolist() == [0.0, 1.0, 5.0, 5.0, 5.0]
    assert built([Feature("c", required=True, categories=CHANNELS)], {"c": column}).missing == {2: "c", 3: "c", 4: "c"}


def test_some_rows_are_those_rows() -> None:
    columns: dict[str, Column] = {
        "a": numbers(0.0, 1.0, 2.0, NAN),
        "c": Categorical(("pos", "ecom"), np.array([0, 1, 1, 0], dtype=np.int32)),
    }
    bound = built([Feature("a", required=True), Feature("c", categories=CHANNELS)], columns, [1, 3])
    assert bound.tensors[0][0].tolist() == [1.0, 1.0]
    assert bound.missing == {1: "a"}  # the position among the rows asked for


def test_a_number_beyond_float32_is_infinite_and_no_warning() -> None:
    assert built([Feature("a")], {"a": numbers(1e300, -1e300)}).tensors[0][:, 0].tolist() == [np.inf, -np.inf]


def test_columns_that_are_not_what_was_declared_are_refused() -> None:
    text = Categorical(("1",), np.array([0], dtype=np.int32))
    with pytest.raises(ValueError, match="a is text"):
        built([Feature("a")], {"a": text})
    with pytest.raises(ValueError, match="a is not text"):
        built([Feature("a", categories=CHANNELS)], {"a": numbers(1.0)})
    with pytest.raises(ValueError, match="no column b"):
        built([Feature("b")], {"a": numbers(1.0)})


def test_columns_are_left_alone() -> None:
    column = numbers(1.0, NAN)
    built([Feature("a", default=9.0)], {"a": column})
    built([Feature("a", required=True)], {"a": column})
    assert np.isnan(column[1])
