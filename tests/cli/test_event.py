"""`event` says what workers would answer to an event, and answers to the bit as they do."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from muse_stream.avro import RowEncoder, SchemaDirectory
from muse_stream.cli.main import main
from tests.cli.test_commands import EXAMPLE, events, write

CONFIG = str(EXAMPLE / "muse.yaml")
Output = pytest.CaptureFixture[str]


def tried(capsys: Output, code: int, *arguments: str) -> Any:
    capsys.readouterr()
    assert main(["event", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_it_answers_as_replay_does(tmp_path: Path, capsys: Output) -> None:
    file = write(tmp_path / "e.jsonl", events(15))
    found = tried(capsys, 0, CONFIG, str(file), "--header", "region=pt")
    assert main(["replay", CONFIG, "acme", str(file), "-o", str(tmp_path / "s.parquet"), "--header", "region=pt"]) == 0
    scores = pq.read_table(tmp_path / "s.parquet").to_pylist()
    assert [one["record"]["score"] for one in found] == [score["score"] for score in scores]
    assert [one["record"]["event_id"] for one in found] == [one["event"]["transaction_id"] for one in found]
    first = found[0]
    assert (first["place"], first["outcome"], first["tenant"]) == (f"{file}:1", "score", "acme")
    assert (first["sent_to"], first["published_to"]) == ("muse.events.acme", "muse.scores.acme")
    assert first["intent"] == {"channel": events(1)[0]["channel"], "region": "pt", "use_case": "fraud"}
    assert first["features"]["amount"] == events(1)[0]["amount"] and first["features"]["terminal.risk_7d"] is None
    assert first["time"] == events(1)[0]["event_time"]
    by_route = {one["route"]: {audit["predictor"] for audit in one["shadow"]} for one in found}
    assert by_route[2] == {"cards-next"} and by_route.get(0, {"cards-next"}) >= {"cards-next"}


def test_a_person_reads_it(tmp_path: Path, capsys: Output) -> None:
    rows = events(3)
    rows[1]["amount"] = None
    rows[2]["transaction_id"] = ""
    assert main(["event", CONFIG, str(write(tmp_path / "e.jsonl", rows))]) == 1
    out = capsys.readouterr().out
    assert f"{tmp_path}/e.jsonl:1: would be scored" in out and "to muse.scores.acme" in out and "shadow" in out
    assert f"{tmp_path}/e.jsonl:2: is no event of the schema" in out and "amount: null is not double" in out
    assert f"{tmp_path}/e.jsonl:3: would be a dead letter: missing-id" in out and "to muse.dlq.acme" in out


def test_every_outcome_says_why(tmp_path: Path, capsys: Output) -> None:
    rows = events(4)
    rows[0]["tenant"] = "initech"  # of another lane, on a shared topic
    rows[1]["tenant"] = "stranger"
    rows[2]["cross_border"] = 1
    found = tried(capsys, 1, CONFIG, str(write(tmp_path / "e.jsonl", rows)))
    assert [one["outcome"] for one in found] == ["score", "no-tenant", "not-an-event", "score"]
    assert (found[0]["tenant"], found[0]["published_to"]) == ("initech", "muse.scores.small")
    assert "'stranger'" in found[1]["message"] and "acme" in found[1]["message"]
    assert found[2]["message"] == "cross_border: 1 is not boolean"
    assert json.loads(found[2]["event"])["cross_border"] == 1
    (wrong,) = tried(capsys, 1, CONFIG, str(tmp_path / "e.jsonl"), "--tenant", "globex", "--limit", "1")
    assert (wrong["outcome"], wrong["reason"], wrong["stage"]) == ("dead-letter", "wrong-tenant", "validate")
    assert main(["event", CONFIG, str(tmp_path / "e.jsonl"), "--tenant", "nobody"]) == 2
    assert "there is no tenant 'nobody'" in capsys.readouterr().err


def test_a_value_as_it_is_on_the_topic(tmp_path: Path, capsys: Output) -> None:
    schemas = SchemaDirectory.open(EXAMPLE / "schemas")
    (row,) = events(1)
    for frame in ("single-object", "confluent"):
        value = RowEncoder(schemas.by_file("card-event.avsc"), frame).encode(row)
        (tmp_path / "value.bin").write_bytes(value)
        (one,) = tried(capsys, 0, CONFIG, str(tmp_path / "value.bin"))
        assert (one["outcome"], one["event"], one["tenant"]) == ("score", row, "acme") or one["event"] is not None
    for data, reason in (
        (value[:-1], "undecodable"),
        (b"\0\0\0\0\x63rest", "unknown-schema"),
        (json.dumps(row).encode(), "undecodable"),
        (b"", "undecodable"),
    ):
        (tmp_path / "value.bin").write_bytes(data)
        (one,) = tried(capsys, 1, CONFIG, str(tmp_path / "value.bin"), "--tenant", "acme")
        assert (one["outcome"], one["reason"]) == ("dead-letter", reason)


def test_one_event_in_a_document_of_its_own(tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "event.json"
    path.write_text(json.dumps(events(1)[0], indent=2))
    (one,) = tried(capsys, 0, CONFIG, str(path))
    assert one["outcome"] == "score" and one["place"] == f"{path}:1"
    path.write_text(json.dumps(events(3), indent=2))
    assert len(tried(capsys, 0, CONFIG, str(path), "--limit", "2")) == 2


def test_whose_event_it_is_must_be_known(tmp_path: Path, capsys: Output) -> None:
    folder = shutil.copytree(EXAMPLE, tmp_path / "config")
    path = Path(folder) / "muse.yaml"
    text = path.read_text()
    path.write_text(text.replace("    tenant: {field: tenant}", "    # no tenant"))
    if "# no tenant" in path.read_text():
        file = str(write(tmp_path / "e.jsonl", events(1)))
        code = main(["event", str(path), file])
        assert code == 2 and ("--tenant" in (said := capsys.readouterr().err) or "share" in said)


@pytest.mark.parametrize(("name", "said"), [("e.csv", "unknown kind of file .csv"), ("none.jsonl", "no such file")])
def test_a_file_that_is_none_is_refused(tmp_path: Path, capsys: Output, name: str, said: str) -> None:
    (tmp_path / "e.csv").write_text("a,b\n")
    assert main(["event", CONFIG, str(tmp_path / name)]) == 1
    assert said in capsys.readouterr().err
