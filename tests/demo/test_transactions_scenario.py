"""Somebody's own transactions: columns, events and scenario, without a broker.

The file is a part of the Handbook's where that is beside the project, else the synthetic stream written as Parquet
under the Handbook's names: the test's id says which.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muse_stream.avro import Decoder, Fields, SchemaDirectory
from muse_stream.commands.check import check
from muse_stream.demo import run, transactions, transactions_scenario
from muse_stream.demo.configuration import fitted, named, served, write
from muse_stream.demo.mapping import HANDBOOK, read_mapping
from muse_stream.demo.scenario import OLD
from muse_stream.demo.screen import Screen
from muse_stream.errors import ConfigError, MuseError, SchemaError
from tests.demo import handbook

DAY_MS = 86_400_000


@pytest.fixture(scope="module", params=[handbook.SOURCE])
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return handbook.small(tmp_path_factory.mktemp("own") / "transactions.parquet")


@pytest.fixture
def mapping_file(tmp_path: Path) -> Iterator[Path]:
    yield handbook.mapping(tmp_path / "mapping.yaml")


def test_a_file_becomes_columns(file: Path) -> None:
    mapping = read_mapping(HANDBOOK)
    rows = transactions.read(file, mapping)
    table = pq.read_table(file)
    assert len(rows.ids) == table.num_rows
    assert rows.ids[5].decode() == str(table["TRANSACTION_ID"][5])
    first = rows.first_streamed(30)
    assert 0 < first < len(rows.ids)
    assert rows.day[first - 1] == 29 and rows.day[first] == 30
    assert len(rows.past) == 15 and all(len(column) == first for column in rows.past.values())
    np.testing.assert_allclose(rows.past["TX_AMOUNT"], table["TX_AMOUNT"].to_numpy()[:first])
    assert rows.label.sum() == sum(table["TX_FRAUD"].to_pylist()[:first])
    terminal = [rows.tenant.values[code] for code in rows.tenant.codes[:50]]
    assert terminal == [str(one) for one in table["TERMINAL_ID"].to_pylist()[:50]]


def test_events_carry_what_was_trained_on_and_never_the_label(file: Path) -> None:
    mapping = read_mapping(HANDBOOK)
    schema = transactions.event_schema(mapping)
    assert not {"TX_FRAUD", "TX_FRAUD_SCENARIO"} & {field.name for field in schema.type.fields}
    rows = transactions.read(file, mapping)
    values = next(transactions.framed(file, mapping, 0))
    fields = Fields("event_id", "event_time", None, ("TX_AMOUNT", "TERMINAL_ID_RISK_7DAY_WINDOW"))
    decoded = Decoder(SchemaDirectory(file.parent, {schema.file: schema}, {}), schema, fields).decode(values)
    assert decoded.ids.to_pylist()[:3] == [one.decode() for one in rows.ids[:3].tolist()]
    assert decoded.times is not None and decoded.times[:3].tolist() == rows.time_ms[:3].tolist()
    for name in fields.columns:
        shown = min(len(values), len(rows.past[name]))
        assert np.array_equal(np.asarray(decoded.columns[name])[:shown], rows.past[name][:shown])


def test_a_part_of_the_file_is_streamed(file: Path) -> None:
    mapping = read_mapping(HANDBOOK)
    everything = [value for values in transactions.framed(file, mapping, 0) for value in values]
    later = [value for values in transactions.framed(file, mapping, 1_234) for value in values]
    assert later == everything[1_234:]


def test_the_scenario_can_be_served(file: Path, mapping_file: Path, tmp_path: Path) -> None:
    made = transactions_scenario.scenario(file, mapping_file, tmp_path, Screen(error=True))
    assert made.events.tenants == ("alpha", "beta")
    assert made.thresholds == {"alpha": 0.8, "beta": 0.6}
    assert set(made.first_aggregates) == {"alpha", "beta"}
    slices = list(made.slices())
    assert sum(len(part.values) for part in slices) == len(made.events)
    assert np.array_equal(np.concatenate([part.tenant for part in slices]), made.events.tenant)
    base = named(made.base, "mine", "main")
    tree = served(base, tmp_path, fitted(base, tmp_path, OLD, made.first_aggregates))
    assert [str(one) for one in check(write(tree, tmp_path / "1.yaml")).problems] == []


def test_a_terminal_is_always_the_same_tenants(file: Path) -> None:
    mapping = read_mapping(HANDBOOK)
    names, tenant = transactions_scenario._tenants(
        mapping, transactions.Strings(("17", "4", "17"), np.array([0, 1, 2], dtype=np.int32))
    )
    assert names == mapping.names
    assert tenant[0] == tenant[2]


def written(path: Path, **columns: pa.Array) -> Path:
    base = {"id": pa.array([1, 2]), "at": pa.array([0, DAY_MS]), "fraud": pa.array([0, 1]), "x": pa.array([1.0, 2.0])}
    pq.write_table(pa.table({**base, "bank": pa.array(["a", "b"]), **columns}), path)
    return path


TINY = """\
id: id
time: at
label: fraud
features: [x]
tenants: {column: bank}
days: {old: [0, 0], past: [1, 1], new: [0, 1], stream: 2}
"""


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"at": pa.array([DAY_MS, 0])}, "not sorted by at"),
        ({"id": pa.array([1, None])}, "id"),
        ({"at": pa.array(["x", "y"])}, "at"),
        ({"x": pa.array(["low", "high"])}, "x"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(columns: dict[str, pa.Array], message: str, tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(TINY, encoding="utf-8")
    with pytest.raises((MuseError, SchemaError), match=message):
        transactions.read(written(tmp_path / "t.parquet", **columns), read_mapping(tmp_path / "mapping.yaml"))


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(TINY.replace("[x]", "[x, y]"), encoding="utf-8")
    with pytest.raises(SchemaError, match="for the field y; there is id, at, fraud"):
        transactions.read(written(tmp_path / "t.parquet"), read_mapping(tmp_path / "mapping.yaml"))


def test_a_day_outside_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(TINY, encoding="utf-8")
    with pytest.raises(MuseError, match="day 2, the first to be streamed, is not inside"):
        transactions_scenario.scenario(
            written(tmp_path / "t.parquet"), tmp_path / "mapping.yaml", tmp_path / "run", Screen(error=True)
        )


def test_columns_that_would_share_a_field_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mapping.yaml").write_text(TINY.replace("[x]", "['x-1', 'x.1']"), encoding="utf-8")
    with pytest.raises(MuseError, match="both make the field x_1"):
        transactions.fields_of(read_mapping(tmp_path / "mapping.yaml"))


def test_a_mapping_alone_is_no_demo() -> None:
    with pytest.raises((MuseError, ConfigError), match="give --events"):
        run(mapping=HANDBOOK)
