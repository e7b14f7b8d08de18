"""`audit` on a real broker: what stands in the file, what is left out, and that a file is whole or not there."""

import json
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer

from muse_stream.avro import RowEncoder
from muse_stream.cli.main import main
from muse_stream.commands.audit import audit
from muse_stream.commands.configuration import open_configuration
from muse_stream.config import KafkaSettings, load_document
from muse_stream.demo.training import ASSETS
from muse_stream.files import RecordFile
from muse_stream.kafka import client
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.testing import Broker
from tests.patience import until
from tests.transactions import await_decided

PAGE = (Path(__file__).parents[2] / "docs" / "audit-records.md").read_text(encoding="utf-8")
Output = pytest.CaptureFixture[str]
START_MS = 1_780_000_000_000
MOMENT = pa.timestamp("ms", "UTC")
PLACE = {"source_topic": "t", "source_partition": 0}


class Bank:
    """The demo's configuration on topics of its own: acme and globex share theirs."""

    def __init__(self, kafka: Broker, folder: Path, mark: str, make_topic: Callable[..., str]) -> None:
        shutil.copytree(ASSETS, folder / "config")
        self.file = folder / "config" / "muse.yaml"
        topics = {kind: f"{mark}.{kind}.{{lane}}" for kind in ("events", "scores", "audit", "dlq")}
        self.file.write_text(f"{self.file.read_text()}topics: {json.dumps(topics)}\n")
        self.document = load_document(self.file).document
        self.topics = self.document.tenant_topics("acme")
        for name in (self.topics.scores, self.topics.audit):
            make_topic(name=name, partitions=2)
        self.settings = KafkaSettings.from_environment()
        self.schemas = output_schemas()
        self.middle = ""
        """Between the scores and the audit records."""

    def producer(self, mark: str) -> Producer:
        made: Producer = client.producer(self.settings, **{"transactional.id": mark})
        made.init_transactions(60)
        return made

    def score(self, offset: int, score: float, tenant: str = "acme", **more: Any) -> bytes:
        record = {
            **PLACE, "event_id": f"{tenant}-{offset}", "tenant": tenant, "predictor": "cards-g1", "score": score,
            "predictor_version": 1, "aggregate": score / 2, "generation": 3, "event_time": START_MS + offset,
            "scored_at": START_MS, "source_offset": offset, "attempt": 1, **more,
        }  # fmt: skip
        return RowEncoder(self.schemas.by_file("score.avsc")).encode(record)

    def audit(self, offset: int, score: float | None, live: float, version: int = 2, **more: Any) -> bytes:
        record = {
            **PLACE, "event_id": f"acme-{offset}", "tenant": "acme", "intent": {"channel": "web"}, "score": score,
            "predictor": "cards-g2", "predictor_version": 2, "aggregate": score, "error": None,
            "experts": [{"name": "trees", "raw": 0.1, "corrected": 0.01}], "live_predictor": "cards-g1",
            "live_predictor_version": 1, "live_score": live, "live_aggregate": live / 2, "generation": 3,
            "event_time": START_MS + offset, "scored_at": START_MS, "source_offset": offset, "attempt": 1, **more,
        }  # fmt: skip
        if version == 1:
            return RowEncoder(self.schemas.by_file("audit.1.avsc")).encode(record)
        return RowEncoder(self.schemas.by_file("audit.avsc")).encode({"live_generation": 3, **record})


@pytest.fixture
def bank(
    kafka: Broker,
    tmp_path: Path,
    unique: Callable[[str], str],
    make_topic: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Bank:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return Bank(kafka, tmp_path, unique("audit"), make_topic)


@pytest.fixture
def filled(bank: Bank, unique: Callable[[str], str]) -> Bank:
    """Five events of acme and what two predictors say; others' records, aborted ones, and what is no record."""
    scores = [(0, 0.9), (1, 0.1), (2, 0.7), (3, 0.85), (4, 0.2)]
    producer = bank.producer(unique("filled"))
    producer.begin_transaction()
    producer.produce(bank.topics.scores, bank.score(0, 0.5), b"aborted", 0)
    producer.flush(60)
    producer.abort_transaction(60)
    producer.begin_transaction()
    for offset, score in scores:
        producer.produce(bank.topics.scores, bank.score(offset, score), b"card\xff", offset % 2)
    producer.produce(bank.topics.scores, bank.score(9, 0.9, "globex"), None, 0)
    for garbage in (b"nothing of ours", None, bank.score(7, 0.5) + b"x", bank.audit(7, 0.5, 0.5)):
        producer.produce(bank.topics.scores, garbage, None, 0)
    producer.flush(60)
    producer.commit_transaction(60)
    between_ms = time.time_ns() // 1_000_000 + 1
    until(lambda: time.time_ns() // 1_000_000 > between_ms, 5)
    bank.middle = datetime.fromtimestamp(between_ms / 1_000, UTC).isoformat()
    producer.begin_transaction()
    shadows = [bank.audit(0, 0.7, 0.9), bank.audit(1, 0.95, 0.1), bank.audit(2, None, 0.7, error="it raised")]
    more: dict[str, Any] = {"experts": [{"name": "a b", "raw": 0.3, "corrected": 0.3}], "intent": {"Region": "pt"}}
    shadows += [bank.audit(3, 0.99, 0.85, version=1), bank.audit(4, 0.81, 0.3, live_generation=2, generation=4, **more)]
    for value in shadows:
        producer.produce(bank.topics.audit, value, b"card", 0)
    producer.flush(60)
    producer.commit_transaction(60)
    await_decided(bank.settings.bootstrap, bank.topics.scores, bank.topics.audit)
    return bank


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
