"""`audit` on a real broker: what stands in the file, what is left out, and that a file is whole or not there."""

import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.cli.main import main
from muse_stream.commands.audit import audit
from muse_stream.commands.configuration import open_configuration
from muse_stream.files import RecordFile
from muse_stream.runtime.answer_reader import output_schemas
from tests.commands.records import Bank

PAGE = (Path(__file__).parents[2] / "docs" / "audit-records.md").read_text(encoding="utf-8")
Output = pytest.CaptureFixture[str]
MOMENT = pa.timestamp("ms", "UTC")


def run(capsys: Output, *words: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["audit", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out + said.err


def asked(sql: str, file: Path) -> list[tuple[Any, ...]]:
    return duckdb.execute(sql.replace("acme.parquet", str(file))).fetchall()


def test_the_file_has_every_record_once_with_typed_columns(filled: Bank, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "out" / "acme.parquet"
    code, said = run(capsys, filled.file, "acme", "--to", file, "--json")
    assert code == 0, said
    told = json.loads(said[: said.rindex("}") + 1])
    assert (told["scores"], told["audit"], told["undecodable"]) == (5, 5, 4)
    assert told["predictors"] == ["cards-g1", "cards-g2"]
    assert "4 records are left out, they are none of ours" in said
    table = pq.read_table(file)
    assert told["columns"] == table.column_names
    kinds = {name: table.schema.field(name).type for name in table.column_names}
    assert {kinds[name] for name in ("event_time", "scored_at", "written_at")} == {MOMENT}
    assert (kinds["key"], kinds["source_offset"], kinds["raw_a b"]) == (pa.binary(), pa.int64(), pa.float64())
    rows = sorted(table.to_pylist(), key=lambda row: (row["record"], row["source_offset"]))
    audits, scores = rows[:5], rows[5:]
    assert [row["score"] for row in scores] == [0.9, 0.1, 0.7, 0.85, 0.2]
    assert {row["key"] for row in scores} == {b"card\xff"}
    assert [row["partition"] for row in scores] == [0, 1, 0, 1, 0]
    assert all(row["live_score"] is row["raw_trees"] is row["intent_channel"] is None for row in scores)
    assert [row["corrected_trees"] for row in audits] == [0.01, 0.01, 0.01, 0.01, None]
    assert [row["raw_a b"] for row in audits] == [None, None, None, None, 0.3]
    assert [(row["intent_channel"], row["intent_Region"]) for row in audits[-2:]] == [("web", None), (None, "pt")]
    assert [row["live_generation"] for row in audits] == [3, 3, 3, 3, 2]  # 3: of a record of the first version
    assert audits[2]["error"] == "it raised" and audits[2]["score"] is None
    assert audits[0]["event_time"].isoformat() == "2026-05-28T20:26:40+00:00"
    assert scores[0]["written_at"] < datetime.fromisoformat(filled.middle) <= audits[0]["written_at"]
    assert [path.name for path in file.parent.iterdir()] == ["acme.parquet"]


def test_the_queries_of_the_page_say_what_would_have_changed(filled: Bank, tmp_path: Path, capsys: Output) -> None:
    file = tmp_path / "acme.parquet"
    assert run(capsys, filled.file, "acme", "--to", file)[0] == 0
    changed, events, generations = re.findall(r"^```sql\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    # three events of equal generations without an error: 0.9 -> 0.7, 0.1 -> 0.95, 0.85 -> 0.99
    assert asked(changed, file) == [("cards-g2", "cards-g1", 3, 2, 2, 1, 1)]
    assert [(row[0], *row[2:]) for row in asked(events, file)] == [("acme-1", 0.1, 0.95), ("acme-0", 0.9, 0.7)]
    assert asked(generations, file) == [(2, 3, 1, 1), (3, 3, 4, 0)]
    documented = set(re.findall(r"`([a-z_]+)`", PAGE)) | set(output_schemas_fields())
    assert {name for name in pq.read_schema(file).names if "_a b" not in name} - documented == {
        "raw_trees",
        "corrected_trees",
        "intent_channel",
        "intent_Region",
    }


def output_schemas_fields() -> list[str]:
    schemas = output_schemas()
    return [field.name for name in ("score.avsc", "audit.avsc") for field in schemas.by_file(name).type.fields]


def test_a_window_and_offsets_choose_what_is_exported(filled: Bank, tmp_path: Path, capsys: Output) -> None:
    def count(*words: str) -> tuple[int, int]:
        code, said = run(capsys, filled.file, "acme", "--to", tmp_path / "some.parquet", "--json", *words)
        assert code == 0, said
        told = json.loads(said[: said.rindex("}") + 1])
        return told["scores"], told["audit"]

    assert count("--since", filled.middle) == (0, 5)
    assert count("--until", filled.middle) == (5, 0)
    assert count("--kind", "audit") == (0, 5)
    assert count("--since", "1d", "--kind", "all") == (5, 5)
    # offsets are those of the tenant's event topic; these records answer another one
    code, said = run(capsys, filled.file, "acme", "--to", tmp_path / "none.parquet", "--from-offset", "0=2")
    assert code == 1 and "there are no score records or audit records in what was asked for" in said
    place = audit_of(filled, tmp_path, from_offset={0: 3}, events="t")
    assert sorted(place) == [("audit", 3), ("audit", 4), ("score", 3), ("score", 4)]
    assert len(audit_of(filled, tmp_path, from_offset=4, events="t")) == 2


def audit_of(bank: Bank, folder: Path, *, from_offset: Any, events: str) -> list[tuple[str, int]]:
    """Export as if the tenant's event topic had another name: `t`, which the records answer."""
    from muse_stream.commands.audit import Selection  # noqa: PLC0415

    text = bank.file.read_text()
    names = {"events": events, **{kind: getattr(bank.topics, kind) for kind in ("scores", "audit", "dlq")}}
    one = bank.file.with_name("one.yaml")
    one.write_text(text[: text.rindex("topics: ")] + f"topics: {json.dumps(names)}\n")
    audit(open_configuration(one), bank.settings, "acme", folder / "some.parquet", Selection(from_offset=from_offset))
    return [(row["record"], row["source_offset"]) for row in pq.read_table(folder / "some.parquet").to_pylist()]


def test_records_that_retention_has_removed_are_said(filled: Bank, tmp_path: Path, capsys: Output) -> None:
    admin = AdminClient({"bootstrap.servers": filled.settings.bootstrap})
    (removed,) = admin.delete_records([TopicPartition(filled.topics.scores, 0, 4)]).values()
    assert removed.result().low_watermark == 4
    gone = f"{filled.topics.scores}[0]: what stood before offset 4 is gone (retention); its first record is of 20"
    for more, told in (([], True), (["--since", "9h"], True), (["--since", filled.middle], False)):
        code, said = run(capsys, filled.file, "acme", "--to", tmp_path / "acme.parquet", *more)
        assert (code, gone in " ".join(said.split())) == (0, told), said


def test_what_stands_behind_an_open_transaction_is_said(
    filled: Bank, tmp_path: Path, unique: Callable[[str], str], capsys: Output
) -> None:
    producer = filled.producer(unique("open"))
    producer.begin_transaction()
    producer.produce(filled.topics.audit, filled.audit(5, 0.5, 0.5), None, 0)
    assert producer.flush(60) == 0
    code, said = run(capsys, filled.file, "acme", "--to", tmp_path / "acme.parquet", "--settle", "4")
    assert code == 0, said
    assert "5 scores and 5 audit records of acme" in said
    assert f"{filled.topics.audit}[0]: records from offset 6 on are left out: a transaction is still open" in said
    producer.abort_transaction(60)


@pytest.mark.parametrize("words, code, expected", [
    (["nobody", "--to", "a.parquet"], 2, "there is no tenant 'nobody'"),
    (["acme", "--to", "a.csv"], 1, "a.csv: the name of a Parquet file ends in .parquet or .pq"),
    (["acme", "--to", "folder.parquet"], 1, "folder.parquet: is a folder; name a file"),
    (["acme", "--to", "a.parquet"], 1, "tenant acme: there are no score records or audit records. Nothing was written"),
    (["initech", "--to", "a.parquet"], 1, "there is no topic"),
    (["acme", "--to", "muse.yaml/a.parquet"], 1, "cannot be written"),
    (["acme", "--to", "a.parquet", "--since", "1d", "--until", "2d"], 1, "it ends before it begins"),
    (["acme", "--to", "a.parquet", "--from-offset", "x"], 2, "'x' is no offset"),
    (["acme", "--to", "a.parquet", "--since", "soon"], 2, "'soon' is no time"),
    (["acme"], 2, "Missing option '--to'"),
])  # fmt: skip
def test_what_cannot_be_exported_is_said(
    bank: Bank,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    expected: str,
) -> None:
    (tmp_path / "folder.parquet").mkdir()
    monkeypatch.chdir(tmp_path / "config")
    shutil.copytree(tmp_path / "folder.parquet", tmp_path / "config" / "folder.parquet")
    if words[0] == "initech":
        text = bank.file.read_text().replace("{lane}", "{tenant}")
        bank.file.write_text(text)
    found, said = run(capsys, bank.file, *words)
    assert (found, expected in " ".join(said.split())) == (code, True), said
    assert not list(tmp_path.glob("config/*a.parquet*"))


def test_an_interrupted_export_leaves_what_was_there(filled: Bank, tmp_path: Path) -> None:
    file = tmp_path / "acme.parquet"
    file.write_bytes(b"of yesterday")

    def interrupted(_done: int, _all: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(open_configuration(filled.file), filled.settings, "acme", file, told=interrupted)
    assert file.read_bytes() == b"of yesterday"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["acme.parquet"]


def test_an_expert_that_comes_late_has_its_column_in_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("muse_stream.files.record_file.PART", 100)
    kind = pa.list_(pa.struct([("name", pa.string()), ("raw", pa.float64()), ("corrected", pa.float64())]))
    with RecordFile(tmp_path / "a.parquet") as file:
        for number in range(10):
            experts = [{"name": "late", "raw": number / 10, "corrected": 0.5}] if number == 9 else []
            batch = pa.RecordBatch.from_arrays([pa.array([experts] * 40, kind)], ["experts"])
            file.write(batch, {"record": "audit", "offset": list(range(40))})
        file.finish()
    table = pq.ParquetFile(tmp_path / "a.parquet")
    assert (table.metadata.num_rows, table.num_row_groups) == (400, 4)
    late = table.read()["raw_late"]
    assert (late.null_count, late.drop_null().unique().to_pylist()) == (360, [0.9])
