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


def test_a_number_beyond_float32_costs_its_row_and_gives_no_warning() -> None:
    bound = built([Feature("b"), Feature("a")], {"a": numbers(1e300, -np.inf, 3.4e38), "b": numbers(1.0, 2.0, 3.0)})
    assert bound.unfit == {0: "a holds what float32 cannot"}  # infinity itself is a value, and what is near is rounded
    assert bound.tensors[0][1:, 1].tolist() == [-np.inf, np.float32(3.4e38)]


I64 = np.dtype(np.int64)


@pytest.mark.parametrize(
    ("dtype", "good", "bad"),
    [
        (np.int64, [0.0, -1.0, 2.0**53 - 1], [1.7, 1e19, 2.0**63, -1e19, 2.0**53, -1e18, np.inf, -np.inf, 1e300]),
        (np.int32, [2147483647.0, -2147483648.0], [2147483648.0, 0.5, -2147483649.0]),
        (np.uint8, [0.0, 255.0], [-1.0, 256.0, 1e-9]),
        (np.uint64, [0.0, 2.0**53 - 1], [-1.0, 2.0**53, 2.0**64]),
        (np.bool_, [0.0, 1.0], [2.0, 0.5, -1.0, np.inf]),
        (np.float16, [0.1, 65504.0, np.inf], [65536.0, -1e5]),
    ],
)
def test_what_a_type_cannot_hold_costs_its_row(dtype: type[np.generic], good: list[float], bad: list[float]) -> None:
    tensor = Tensor((Feature("v", required=True),), np.dtype(dtype))
    column = numbers(*good, *bad)
    bound = build([tensor], {"v": column})
    assert sorted(bound.unfit) == list(range(len(good), len(column)))
    assert {text.split()[0] for text in bound.unfit.values()} == {"v"}
    assert bound.tensors[0][: len(good), 0].tolist() == np.array(good).astype(dtype).tolist()
    assert bound.missing == {}


def test_a_number_that_its_column_may_have_rounded_costs_its_row_and_says_so() -> None:
    """2^53 + 1 of a nullable long stands in its column as 2^53."""
    bound = build([Tensor((Feature("v"),), I64)], {"v": numbers(2.0**53 + 1, 2.0**53 - 1, 1e19)})
    assert bound.unfit == {
        0: "v holds a number from 2^53 on, which a column with nulls or fractions rounds",
        2: "v holds what int64 cannot",
    }
    assert bound.tensors[0][1, 0] == 2**53 - 1


def test_integers_are_looked_at_as_integers() -> None:
    column = np.array([2**62 + 1, 2**40, 7, -1])
    assert build([Tensor((Feature("v"),), I64)], {"v": column}).tensors[0][:, 0].tolist() == column.tolist()
    assert sorted(build([Tensor((Feature("v"),), np.dtype(np.int32))], {"v": column}).unfit) == [0, 1]
    assert sorted(build([Tensor((Feature("v"),), np.dtype(np.uint64))], {"v": column}).unfit) == [3]


def test_a_missing_value_is_missing_before_it_is_unfit() -> None:
    bound = build([Tensor((Feature("v", required=True),), I64)], {"v": numbers(NAN, 0.5, 1.0)})
    assert bound.missing == {0: "v"}
    assert list(bound.unfit) == [1]


def test_a_default_stands_where_the_value_is_missing_not_where_it_is_unfit() -> None:
    bound = build([Tensor((Feature("v", default=4.0),), I64)], {"v": numbers(NAN, 0.5)})
    assert bound.tensors[0][0, 0] == 4
    assert list(bound.unfit) == [1]


STRINGS = np.dtype(object)


def test_strings_are_fed_as_they_are() -> None:
    column = Categorical(("de", "fr", None), np.array([1, 0, 2, -1, 1], dtype=np.int32))
    bound = build([Tensor((Feature("c", default="missing"),), STRINGS)], {"c": column})
    assert bound.tensors[0][:, 0].tolist() == ["fr", "de", "missing", "missing", "fr"]
    refused = build([Tensor((Feature("c", required=True),), STRINGS)], {"c": column})
    assert refused.missing == {2: "c", 3: "c"}


def test_integers_are_strings_and_categories_by_their_digits() -> None:
    table = (("*", -1.0), ("5411", 0.25), ("742", 0.5))
    columns: dict[str, Column] = {"mcc": np.array([5411, 742, 9]), "nullable": numbers(5411.0, NAN, 742.0)}
    bound = built([Feature("mcc", categories=table), Feature("nullable", categories=table)], columns)
    assert bound.tensors[0][:, 0].tolist() == [0.25, 0.5, -1.0]
    assert np.array_equal(bound.tensors[0][:, 1], [0.25, NAN, 0.5], equal_nan=True)
    features = (Feature("mcc", default=""), Feature("nullable", default=""))
    assert build([Tensor(features, STRINGS)], columns).tensors[0].tolist() == [
        ["5411", "5411"],
        ["742", ""],
        ["9", "742"],
    ]


def test_booleans_are_categories_with_and_without_nulls() -> None:
    table = (("false", 2.0), ("true", 3.0))
    columns: dict[str, Column] = {"flag": np.array([True, False]), "nullable": numbers(1.0, NAN)}
    bound = built([Feature("flag", categories=table), Feature("nullable", categories=table)], columns)
    assert bound.tensors[0][:, 0].tolist() == [3.0, 2.0]
    assert np.array_equal(bound.tensors[0][:, 1], [3.0, NAN], equal_nan=True)


def test_a_fraction_is_no_category() -> None:
    bound = built([Feature("v", categories=(("*", -1.0), ("1", 1.0)))], {"v": numbers(1.0, 1.5, 2.0**60)})
    assert np.array_equal(bound.tensors[0][:, 0], [1.0, NAN, NAN], equal_nan=True)


def test_columns_that_are_not_what_was_declared_are_refused() -> None:
    text = Categorical(("1",), np.array([0], dtype=np.int32))
    with pytest.raises(ValueError, match="a is text"):
        built([Feature("a")], {"a": text})
    with pytest.raises(ValueError, match="no column b"):
        built([Feature("b")], {"a": numbers(1.0)})


def test_columns_are_left_alone() -> None:
    column = numbers(1.0, NAN)
    built([Feature("a", default=9.0)], {"a": column})
    built([Feature("a", required=True)], {"a": column})
    assert np.isnan(column[1])
