"""The notebook's door: the stream's scores, from dicts, Arrow tables and whatever offers columns like pandas."""

import sys
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from muse_stream.avro import fixed_width
from muse_stream.scoring import Answers
from muse_stream.scoring.columns import Categorical
from muse_stream.scoring.event_table import EventTable
from tests.scoring.doubles import document, snapshot, table

ROUTES: list[dict[str, object]] = [
    {"when": {"region": "eu"}, "live": "two", "shadow": ["one"]},
    {"when": {"tenant": ["acme", "globex"]}, "live": "one", "shadow": [{"predictor": "three", "sample": 0.5}]},
]
ROWS = 90


def known_tenants() -> EventTable:
    """Return a batch of tenants that exist; some have no route."""
    batch = table(ROWS)
    names = ["initech" if name == "nobody" else name for name in batch.tenant.to_list()]
    return replace(batch, tenant=Categorical.from_strings(names))


def plain() -> dict[str, Any]:
    """Return the columns of a batch as Python lists, None for null."""
    batch = known_tenants()
    assert batch.ids is not None
    return {
        "tenant": batch.tenant.to_list(),
        "region": batch.intent["region"].to_list(),
        "channel": batch.intent["channel"].to_list(),
        "amount": batch.features["amount"].tolist(),  # type: ignore[union-attr]
        "risk": [None if np.isnan(one) else one for one in batch.features["risk"].tolist()],  # type: ignore[union-attr]
        "age": batch.features["age"].tolist(),  # type: ignore[union-attr]
        "id": [one.decode() for one in batch.ids.tolist()],
    }


class Frame:
    """Offers what pandas.DataFrame offers here: keys, columns by name, and `to_numpy`, with NaN for missing text."""

    class Series:
        def __init__(self, cells: list[Any]) -> None:
            self._cells = cells

        def to_numpy(self) -> np.ndarray[Any, Any]:
            text = any(isinstance(one, str) for one in self._cells)
            cells = [float("nan") if one is None else one for one in self._cells]
            return np.array(cells, dtype=object if text else None)

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self._columns = columns

    def keys(self) -> list[str]:
        return list(self._columns)

    def __getitem__(self, name: str) -> "Frame.Series":
        return Frame.Series(self._columns[name])


@pytest.mark.parametrize("shape", ["dict", "arrow", "frame", "arrays"])
def test_gives_the_bits_of_the_stream_whatever_the_table(shape: str) -> None:
    made = snapshot(document(ROUTES), role="shadow")
    columns = plain()
    given: Any = {
        "dict": columns,
        "arrow": pa.table(columns),
        "frame": Frame(columns),
        "arrays": {name: np.array(cells) for name, cells in columns.items()},
    }[shape]
    answers = made.score(given)
    scored = made.execute(known_tenants())
    for live in scored.live:
        assert answers["score"][live.rows].tobytes() == live.score.tobytes()
        assert answers["aggregate"][live.rows].tobytes() == live.aggregate.tobytes()
        assert set(answers["predictor"][live.rows]) == {live.predictor}
        assert set(answers["predictor_version"][live.rows]) == {live.version}
    lost = [one.row for one in scored.rejected]
    assert lost
    assert np.flatnonzero(np.isnan(answers["score"])).tolist() == lost
    assert all(str(answers["error"][row]).startswith("no-route: ") for row in lost)
    assert sum(one is None for one in answers["error"]) == ROWS - len(lost)
    for shadow in scored.shadow:
        column = answers[f"shadow:{shadow.predictor}"]
        assert column[shadow.rows].tobytes() == shadow.score.tobytes()
        assert np.isnan(np.delete(column, shadow.rows)).all()


def test_answers_are_given_as_a_table_too() -> None:
    """The same bits; what is not there is null in Arrow, and a column of nothing keeps its type."""
    answers = snapshot(document(ROUTES), role="shadow").score(plain())
    arrow = answers.to_arrow()
    assert arrow.column_names == list(answers)
    lost = np.isnan(answers["score"])
    assert arrow["score"].null_count == lost.sum() > 0
    assert arrow["score"].drop_null().to_numpy().tobytes() == answers["score"][~lost].tobytes()
    assert arrow["error"].to_pylist() == answers["error"].tolist()
    well = snapshot(document([{"live": "one"}])).score({"tenant": "acme", "channel": "pos", "risk": 0.5, "amount": 1.0})
    assert well.to_arrow().schema.field("error").type == pa.string()


def test_tables_and_answers_may_be_those_of_pandas() -> None:
    """Not in the lock: where pandas is installed pyarrow imports it, and the start of a worker would be another one."""
    pd = pytest.importorskip("pandas")
    made = snapshot(document(ROUTES), role="shadow")
    answers = made.score(pd.DataFrame(plain()))
    assert answers["score"].tobytes() == made.score(plain())["score"].tobytes()
    frame = answers.to_pandas()
    assert list(frame) == list(answers)
    assert frame["score"].to_numpy().tobytes() == answers["score"].tobytes()
    lost = np.isnan(answers["score"])
    assert frame["predictor"][~lost].tolist() == answers["predictor"][~lost].tolist()
    assert frame["predictor"][lost].isna().all()


def test_a_data_frame_is_made_of_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    assert Answers({"score": np.zeros(1)}).to_pandas() == ["score"]


def test_without_pandas_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        Answers({}).to_pandas()


def test_a_snapshot_tells_what_it_holds() -> None:
    whole, live = (snapshot(document(ROUTES), role=role) for role in ("shadow", "live"))
    assert whole.predictors == ("two", "one", "three")
    assert live.predictors == ("two", "one")
    assert whole.tenants == live.tenants == tuple(document(ROUTES).tenants)
    assert (
        repr(live) == f"<Snapshot of generation {live.number}, live: predictors two, one; {len(live.tenants)} tenants>"
    )


def test_a_scalar_stands_for_every_row() -> None:
    made = snapshot(document([{"live": "one"}]))
    answers = made.score({"tenant": "acme", "channel": "pos", "risk": None, "amount": [1.0, 2.0, 1.0]})
    assert len(answers["score"]) == 3
    assert answers["score"][0] == answers["score"][2]
    one = made.score({"tenant": "acme", "channel": "pos", "risk": None, "amount": 1.0})
    assert one["score"].tolist() == answers["score"][:1].tolist()


def test_a_shadow_that_scored_nothing_still_has_its_column() -> None:
    made = snapshot(document(ROUTES), role="shadow")
    answers = made.score({**plain(), "region": "us", "tenant": "acme"})
    assert np.isnan(answers["shadow:one"]).all()


def test_all_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match="tenant, region, age, risk, id"):
        snapshot(document(ROUTES), role="shadow").score({"amount": [1.0], "channel": ["pos"]})


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"tenant 2, channel 3"):
        snapshot(document([{"live": "one"}])).score(
            {"tenant": ["acme", "acme"], "channel": ["pos"] * 3, "amount": 1.0, "risk": 1.0}
        )


@pytest.mark.parametrize("tenant", ["acmee", ["acme", None]])
def test_a_tenant_that_does_not_exist_is_refused(tenant: Any) -> None:
    made = snapshot(document([{"live": "one"}]))  # a route for everybody, which would answer it
    with pytest.raises(ValueError, match=r"there is no tenant ('acmee'|None); there is: acme, globex"):
        made.score({"tenant": tenant, "channel": "pos", "amount": 1.0, "risk": 1.0})


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mapping of columns.*not list"):
        snapshot(document([{"live": "one"}])).score([{"tenant": "acme"}])  # type: ignore[arg-type]


def test_a_text_column_of_nulls_is_text_as_in_any_other_batch() -> None:
    made = snapshot(document([{"live": "one"}]))
    whole = made.score({"tenant": "acme", "channel": [None, "pos"], "amount": 1.0, "risk": 1.0})
    for nulls in (None, [None], [float("nan")], pa.array([None], pa.string())):
        alone = made.score({"tenant": "acme", "channel": nulls, "amount": 1.0, "risk": 1.0})
        assert alone["error"][0] == whole["error"][0]
        assert alone["score"].tobytes() == whole["score"][:1].tobytes()


def test_arrow_columns_with_nulls_may_stand_in_a_dict() -> None:
    made = snapshot(document([{"live": "one"}]))
    plain: dict[str, Any] = {
        "tenant": "acme",
        "channel": ["pos", None, "web"],
        "amount": [1.0, 2.0, 3.0],
        "risk": [None, 0.5, 1.0],
    }
    arrow: dict[str, Any] = {
        name: pa.array(cells) if isinstance(cells, list) else cells for name, cells in plain.items()
    }
    arrow["channel"] = pa.chunked_array([arrow["channel"].dictionary_encode()])
    assert made.score(arrow)["score"].tobytes() == made.score(plain)["score"].tobytes()


def test_long_ids_are_sampled_as_in_the_stream() -> None:
    made = snapshot(document(ROUTES), role="shadow")
    ids = pa.array([f"{'x' * 250}{number:06}-{number}" for number in range(ROWS)])
    columns = {**plain(), "tenant": "acme", "region": "us", "id": ids.to_pylist()}
    batch = replace(known_tenants(), ids=fixed_width(ids), tenant=Categorical.constant("acme", ROWS))
    scored = made.execute(replace(batch, intent={"region": Categorical.constant("us", ROWS)}))
    seen = next(one for one in scored.shadow if one.predictor == "three")
    assert 0 < len(seen.rows) < ROWS
    assert np.flatnonzero(~np.isnan(made.score(columns)["shadow:three"])).tolist() == seen.rows.tolist()


@pytest.mark.parametrize(
    ("cells", "region"),
    [
        (pa.array([5411, None]), "5411"),
        (pa.array([2**53 + 1, None]), str(2**53 + 1)),
        ([5411, None], "5411"),
        (np.array([5411, 7]), "5411"),
        (pa.array([True, None]), "true"),
        ([False, None], "false"),
        (pa.array([b"\xff\x00", None]), "ff00"),
        ([Decimal("12.50"), None], "12.50"),
        ([UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479"), None], "f47ac10b-58cc-4372-a567-0e02b2c3d479"),
        ([0.5, None], "0.5"),
    ],
)
def test_attributes_have_the_text_that_they_have_in_the_stream(cells: Any, region: str) -> None:
    routes: list[dict[str, object]] = [{"when": {"region": region}, "live": "two"}, {"live": "one"}]
    columns = {"tenant": "acme", "channel": None, "amount": 1.0, "risk": 0.5, "age": 30, "id": "a"}
    given: Any = {**columns, "region": cells}
    if isinstance(cells, pa.Array):
        given = pa.table({"region": cells, **{name: [value] * len(cells) for name, value in columns.items()}})
    assert snapshot(document(routes)).score(given)["predictor"].tolist() == ["two", "one"]
