"""`golden` writes what the trainer predicted as golden events, and tells at once whether the export agrees."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from skl2onnx import to_onnx
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

from muse_stream.cli.main import main
from muse_stream.commands.check import check
from muse_stream.commands.golden import write_golden
from muse_stream.errors import ConfigError, MuseError
from muse_stream.files import read_rows
from tests.runtime.test_model_kinds import configured

FEATURES = np.random.default_rng(1).normal(size=(800, 2)).astype(np.float32)
LABELS = (FEATURES[:, 0] - FEATURES[:, 1] > 0.3).astype(int)
SPEC = {
    "inputs": {"X": [{"field": "amount", "default": 0.0}, {"field": "count", "default": 0}]},
    "output": {"name": "output_probability"},
}


def served(folder: Path, estimator: Any, **golden: Any) -> Path:
    estimator.fit(FEATURES, LABELS)
    data = to_onnx(estimator, FEATURES[:1]).SerializeToString()
    return configured(folder, data, {**SPEC, **({"golden": golden} if golden else {})})


def predictions(folder: Path, estimator: Any, names: tuple[str, str] = ("amount", "count")) -> Path:
    table = {name: FEATURES[:, place].astype(float) for place, name in enumerate(names)}
    table |= {"score": estimator.predict_proba(FEATURES)[:, 1]}
    pq.write_table(pa.table(table), folder / "predictions.parquet")
    return folder / "predictions.parquet"


def test_a_right_export_agrees_and_the_file_is_what_check_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    estimator = LogisticRegression()
    path = served(tmp_path, estimator)
    assert [one.message.partition(":")[0] for one in check(path).warnings] == ["no golden rows"]
    table = predictions(tmp_path, estimator)
    assert main(["golden", str(path), "cards", str(table), "--column", "score", "--rows", "100"]) == 0
    text = capsys.readouterr().out
    assert "100 golden events in" in text
    assert "0 differ by more than 1e-06" in text
    content = json.loads((tmp_path / "cards.golden.json").read_text())
    assert len(content["events"]) == len(content["scores"]) == 100
    assert max(content["scores"]) - min(content["scores"]) > 0.9  # over the whole range
    path = served(tmp_path, estimator, file="cards.golden.json")
    checked = check(path)
    assert checked.ok
    assert checked.warnings == ()


def test_a_wrong_export_is_told_with_the_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """skl2onnx gives LinearDiscriminantAnalysis of two classes other probabilities than scikit-learn."""
    estimator = LinearDiscriminantAnalysis()
    path = served(tmp_path, estimator)
    table = predictions(tmp_path, estimator)
    assert main(["golden", str(path), "cards", str(table), "--column", "score", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["agrees"] is False
    assert told["differing"] > 100
    assert told["largest"] > 0.01
    path = served(tmp_path, estimator, file="cards.golden.json")
    assert "golden rows differ" in check(path).problems[0].message


def test_swapped_features_are_found_by_golden_events(tmp_path: Path) -> None:
    estimator = LogisticRegression()
    path = served(tmp_path, estimator)
    swapped = predictions(tmp_path, estimator, ("count", "amount"))
    assert not write_golden(path, "cards", swapped, "score", tmp_path / "g.json").agrees
    renamed = {"amount": "count", "count": "amount"}
    assert write_golden(path, "cards", swapped, "score", tmp_path / "g.json", columns=renamed).agrees


def test_a_share_of_the_rows_may_differ(tmp_path: Path) -> None:
    estimator = LogisticRegression()
    served(tmp_path, estimator)
    table = predictions(tmp_path, estimator)
    rows = pq.read_table(table).to_pylist()
    for row in rows[:3]:
        row["score"] = 1.0 - row["score"]
    pq.write_table(pa.Table.from_pylist(rows), table)
    path = served(tmp_path, estimator)
    assert not write_golden(path, "cards", table, "score", tmp_path / "cards.golden.json", rows=800).agrees
    assert not check(served(tmp_path, estimator, file="cards.golden.json")).ok
    path = served(tmp_path, estimator, file="cards.golden.json", differing=0.005)
    assert check(path).ok
    assert write_golden(path, "cards", table, "score", tmp_path / "cards.golden.json", rows=800).agrees


def test_missing_values_are_kept_and_chosen_first(tmp_path: Path) -> None:
    estimator = LogisticRegression()
    path = served(tmp_path, estimator)
    lines: list[dict[str, float | None]] = [
        {"amount": 1.0, "count": 2, "score": float(estimator.predict_proba([[1, 2]])[0, 1])} for _ in range(500)
    ]
    lines += [{"amount": None, "score": float(estimator.predict_proba([[0, 0]])[0, 1])}]
    table = tmp_path / "predictions.jsonl"
    table.write_text("\n".join(map(json.dumps, lines)))
    assert write_golden(path, "cards", table, "score", tmp_path / "g.json", rows=10).agrees
    assert {"amount": None, "count": None} in json.loads((tmp_path / "g.json").read_text())["events"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"amount": 1, "score": 0.5}', r"has no column count; there is: amount, score \(--field FIELD=COLUMN"),
        ('{"amount": 1, "count": 1}', "has no column score"),
        ('{"amount": 1, "count": 1, "score": 1.5}', r"row 0: the score 1.5 is no probability in \[0, 1\]"),
        ('{"amount": 1, "count": 1, "score": null}\n{"amount": 1, "count": 1, "score": 1}', "row 0: the score None"),
        ('{"amount": [1], "count": 1, "score": 1}', r"row 0: amount is \[1\], neither a finite number nor a text"),
        ('{"amount": 1, "count": 1, "score": 1', r"predictions.jsonl:1: not JSON"),
        ("[1]", r"predictions.jsonl:1: not a JSON object"),
    ],
)
def test_a_table_that_is_no_such_table_is_refused(tmp_path: Path, lines: str, message: str) -> None:
    path = served(tmp_path, LogisticRegression())
    table = tmp_path / "predictions.jsonl"
    table.write_text(lines)
    with pytest.raises(MuseError, match=message):
        write_golden(path, "cards", table, "score", tmp_path / "g.json")


def test_a_model_that_there_is_not_is_refused_with_those_there_are(tmp_path: Path) -> None:
    path = served(tmp_path, LogisticRegression())
    with pytest.raises(ConfigError, match=r"no model 'card' \(there is: cards\)"):
        write_golden(path, "card", tmp_path / "x.parquet", "score", tmp_path / "g.json")


def test_tables_of_every_kind_are_the_same_rows(tmp_path: Path) -> None:
    import fastavro  # noqa: PLC0415 - only here

    rows = [{"amount": 1.5, "country": "DE"}, {"amount": None, "country": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    (tmp_path / "t.csv").write_text("amount,country\n1.5,DE\n,\n")
    fields = [{"name": "amount", "type": ["null", "double"]}, {"name": "country", "type": ["null", "string"]}]
    with (tmp_path / "t.avro").open("wb") as file:
        fastavro.writer(file, {"type": "record", "name": "R", "fields": fields}, rows)
    found = {kind: read_rows(tmp_path / f"t.{kind}") for kind in ("parquet", "jsonl", "avro", "csv")}
    assert found["parquet"] == found["jsonl"] == found["avro"] == rows
    assert found["csv"] == rows
    (tmp_path / "t.csv").write_text('id,code,n,when,flag\n1,007,1e3,2026-01-01,true\n2,10,"-0.5",,false\n')
    assert read_rows(tmp_path / "t.csv") == [
        {"id": 1, "code": "007", "n": 1000.0, "when": "2026-01-01", "flag": True},
        {"id": 2, "code": "10", "n": -0.5, "when": None, "flag": False},
    ]
    for text, said in (("a,a\n1,2\n", "'a' is there twice"), ("a,b\n1\n", "csv:2: 1 cells"), ("a\n1e999\n", "csv:2: ")):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(MuseError, match=said):
            read_rows(tmp_path / "t.csv")
    with pytest.raises(MuseError, match="not a table that can be read; it ends in one of"):
        read_rows(tmp_path / "t.xlsx")
    with pytest.raises(MuseError, match=r"none\.csv: "):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "t.parquet").write_bytes(b"nonsense")
    with pytest.raises(MuseError, match=r"t\.parquet: "):
        read_rows(tmp_path / "t.parquet")


def test_constant_answers_and_column_numbers_are_warned_of(tmp_path: Path) -> None:
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415 - only here

    tree = DecisionTreeClassifier().fit(np.zeros((10, 2)), np.arange(10) % 2)  # nothing to split by
    data = to_onnx(tree, FEATURES[:1]).SerializeToString()
    warned = check(configured(tmp_path, data, SPEC)).warnings
    assert any("answers 0.5 to every row that was tried" in one.message for one in warned)
    estimator = LogisticRegression().fit(FEATURES, np.where(LABELS, "fraud", "legit"))
    data = to_onnx(estimator, FEATURES[:1]).SerializeToString()
    spec = {**SPEC, "output": {"name": "output_probability", "positive": 1}}
    found = check(configured(tmp_path, data, spec))
    assert found.ok
    assert any(one.message == "column 1 is the class 'legit'" for one in found.warnings)
