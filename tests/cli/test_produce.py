"""`produce` sends a file whole or says exactly what it sent; a bad row can be left out, and the rest sent later."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType  # type: ignore[attr-defined]

from muse_stream.avro import SchemaDirectory, decode_records
from muse_stream.cli.main import main
from muse_stream.commands import produce as command
from muse_stream.commands.configuration import open_configuration
from muse_stream.commands.produce import Progress, Sending, produce
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Fatal, SchemaError
from muse_stream.kafka import client, follow
from muse_stream.testing.kafka_broker import Broker
from tests.cli.test_commands import EXAMPLE, events, write
from tests.patience import until

Output = pytest.CaptureFixture[str]


@pytest.fixture
def settings(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return KafkaSettings.from_environment()


@pytest.fixture
def config(tmp_path: Path, unique: Callable[[str], str], settings: KafkaSettings) -> Path:
    shutil.copytree(EXAMPLE, tmp_path / "config")
    path = tmp_path / "config" / "muse.yaml"
    mark = unique("p")
    path.write_text(path.read_text().replace("muse.", f"{mark}.").replace("globex.risk", f"{mark}.risk"))
    assert main(["topics", str(path), "--partitions", "2"]) == 0
    return path


def on_topic(config: Path, settings: KafkaSettings) -> list[str]:
    """Ids of the tenant's events that have arrived, sorted."""
    document = open_configuration(config).loaded.document
    topic = document.tenant_topics("acme").events
    records = [one for some in follow(settings, topic, "beginning", until_end=True) for one in some]
    decoded = decode_records(SchemaDirectory.open(config.parent / "schemas"), [one.value for one in records])
    return sorted(one["transaction_id"] for one in decoded if isinstance(one, dict))


def spoilt(count: int, *bad: int) -> list[dict[str, Any]]:
    rows = events(count)
    for place in bad:
        rows[place - 1]["amount"] = None
    return rows


def ids(*numbers: int) -> list[str]:
    return sorted(f"acme-{number - 1}" for number in numbers)


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_bad_row_in_the_middle_stops_it_before_anything_is_sent(
    config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(command, "CHUNK", 10)
    file, rows = tmp_path / f"e.{kind}", spoilt(40, 25, 31)
    if kind == "jsonl":
        write(file, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    capsys.readouterr()
    assert main(["produce", str(config), "acme", str(file)]) == 1
    said = capsys.readouterr().err
    places = (f"{file}:25: ", f"{file}:31: ") if kind == "jsonl" else (f"{file}, row 25: ", f"{file}, row 31: ")
    assert all(place in said for place in places)
    assert "amount: null is not double" in said and "2 rows are no events" in said and "nothing was sent" in said
    assert on_topic(config, settings) == []

    skipped = tmp_path / "skipped.jsonl"
    assert main(["produce", str(config), "acme", str(file), "--skip-invalid", str(skipped), "--json"]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert (sent["events"], sent["acknowledged"], sent["skipped"]) == (38, 38, 2)
    assert on_topic(config, settings) == ids(*(set(range(1, 41)) - {25, 31}))
    lines = [json.loads(line) for line in skipped.read_text().splitlines()]
    assert [(line["row"], line["error"]) for line in lines] == [(row, "amount: null is not double") for row in (25, 31)]
    assert [line["event"]["transaction_id"] for line in lines] == ["acme-24", "acme-30"]


def test_what_was_left_out_is_sent_once_it_is_right(
    config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output
) -> None:
    file, skipped = write(tmp_path / "e.jsonl", spoilt(5, 2)), tmp_path / "skipped.jsonl"
    with file.open("a") as more:
        more.write("no JSON\n")
    assert main(["produce", str(config), "acme", str(file), "--skip-invalid", str(skipped)]) == 0
    assert "2 rows are no events" in capsys.readouterr().err
    first, second = (json.loads(line) for line in skipped.read_text().splitlines())
    assert second["row"] == 6 and second["event"] == "no JSON"
    mended = write(tmp_path / "mended.jsonl", [first["event"] | {"amount": 1.0}])
    assert main(["produce", str(config), "acme", str(mended)]) == 0
    assert on_topic(config, settings) == ids(1, 2, 3, 4, 5)
    assert main(["produce", str(config), "acme", str(file), "--skip-invalid", str(file)]) == 1
    assert "give --skip-invalid another file" in capsys.readouterr().err and file.read_text().count("\n") == 6


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_rows_that_are_not_asked_for_are_not_looked_at(
    config: Path, settings: KafkaSettings, tmp_path: Path, kind: str
) -> None:
    file, rows = tmp_path / f"e.{kind}", spoilt(9, 1, 7)
    if kind == "jsonl":
        write(file, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    assert main(["produce", str(config), "acme", str(file), "--from-row", "2", "--limit", "5"]) == 0
    assert on_topic(config, settings) == ids(2, 3, 4, 5, 6)
    skipped = str(tmp_path / "skipped")
    assert main(["produce", str(config), "acme", str(file), "--from-row", "7", "--skip-invalid", skipped]) == 0
    assert on_topic(config, settings) == ids(2, 3, 4, 5, 6, 8, 9)


def test_an_event_that_no_worker_would_score_is_refused_by_its_size(
    config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output
) -> None:
    rows = events(3)
    rows[1]["terminal"]["id"] = "t" * (1 << 20)
    file, skipped = write(tmp_path / "e.jsonl", rows), tmp_path / "skipped"
    assert main(["produce", str(config), "acme", str(file)]) == 1
    assert f"{file}:2: an event of 1,048," in capsys.readouterr().err
    assert main(["produce", str(config), "acme", str(file), "--skip-invalid", str(skipped)]) == 0
    assert on_topic(config, settings) == ids(1, 3)


def test_what_ends_it_early_says_what_was_sent_and_how_to_send_the_rest(
    config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output
) -> None:
    """The broker refuses one record; a second call from the row that is named sends the others."""
    document = open_configuration(config).loaded.document
    topic = document.tenant_topics("acme").events
    limit(settings, topic, "2000")
    rows = events(60)
    rows[40]["terminal"]["id"] = "".join(f"{number:x}" for number in range(2_000))
    file = write(tmp_path / "e.jsonl", rows)
    with pytest.raises(Fatal) as caught:
        produce(open_configuration(config), settings, "acme", file, Sending(rate=100.0))
    said = re.search(r"; (\d+) events are on \S+: .*--from-row (\d+) sends the rest", str(caught.value))
    assert said is not None, str(caught.value)
    there, first = on_topic(config, settings), int(said[2])
    assert len(there) == int(said[1]) and "acme-40" not in there
    assert set(ids(*range(1, first))) <= set(there) and f"acme-{first - 1}" not in there
    again = re.search(r"and the (\d+) once more", str(caught.value))
    assert len(there) - (first - 1) == (int(again[1]) if again else 0)
    limit(settings, topic, "1000000")
    assert main(["produce", str(config), "acme", str(file), "--from-row", str(first)]) == 0
    assert set(on_topic(config, settings)) == set(ids(*range(1, 61)))


def limit(settings: KafkaSettings, topic: str, size: str) -> None:
    entry = ConfigEntry("max.message.bytes", size, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = client.admin(settings)
    (done,) = admin.incremental_alter_configs([resource]).values()
    done.result(60)

    def told() -> str | None:
        (answer,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
        return str(answer.result(60)["max.message.bytes"].value)

    until(lambda: told() == size, 20)


def test_ctrl_c_says_what_was_sent(config: Path, settings: KafkaSettings, tmp_path: Path) -> None:
    file, said = write(tmp_path / "e.jsonl", events(50)), list[str]()

    def interrupt(sent: int) -> None:
        if sent >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        produce(
            open_configuration(config),
            settings,
            "acme",
            file,
            Sending(rate=1_000.0),
            Progress(sent=interrupt, interrupted=said.append),
        )
    (report,) = said
    assert (count := re.match(r"(\d+) events are on", report)) and f"--from-row {int(count[1]) + 1} sends" in report, (
        report
    )
    assert on_topic(config, settings) == ids(*range(1, int(count[1]) + 1))


def test_a_file_that_changes_meanwhile_is_reported_like_any_other_end(
    config: Path, settings: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "CHUNK", 10)
    file = write(tmp_path / "e.jsonl", events(30))

    def spoil(checked: int) -> None:
        if checked == 30:
            write(file, spoilt(30, 15))

    with pytest.raises(
        SchemaError, match=r"e\.jsonl:15: amount: null .*; 10 events are on .*: all up to row 10; --from-row 11 sends"
    ):
        produce(open_configuration(config), settings, "acme", file, Sending(), Progress(checked=spoil))
    assert on_topic(config, settings) == ids(*range(1, 11))
