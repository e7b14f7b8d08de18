"""The commands together, on the real broker: what one sends the other finds, and what is wrong is counted."""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muse_stream.cli.main import main
from muse_stream.commands.configuration import open_configuration
from muse_stream.commands.tail import tail
from muse_stream.config import Role, load_document
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import client
from muse_stream.kafka.topic_reader import Bounds, Reading, bounds, reader
from muse_stream.runtime.batch_scorer import build_scorer
from muse_stream.testing.kafka_broker import Broker
from muse_stream.worker.batch import Batch, Header
from muse_stream.worker.dead_letter import headers

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
Output = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path, unique: Callable[[str], str]) -> Path:
    """The example with topics that no other test has."""
    shutil.copytree(EXAMPLE, tmp_path / "config")
    path = tmp_path / "config" / "muse.yaml"
    mark = unique("t")
    path.write_text(path.read_text().replace("muse.", f"{mark}.").replace("globex.risk", f"{mark}.risk"))
    return path


@pytest.fixture
def settings(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return KafkaSettings.from_environment()


def events(count: int, tenant: str = "acme") -> list[dict[str, Any]]:
    chance = random.Random(7)
    return [
        {
            "transaction_id": f"{tenant}-{number}",
            "event_time": 1_780_000_000_000 + number * 1000,
            "tenant": tenant,
            "channel": chance.choice(["pos", "ecom", "atm"]),
            "amount": round(chance.expovariate(0.02), 2),
            "cross_border": chance.random() < 0.1,
            "terminal": {"id": f"t{number % 9}", "risk_7d": chance.random() if number % 4 else None},
            "customer": {"age": chance.randint(18, 90) if number % 5 else None, "tx_per_day": chance.random() * 4},
        }
        for number in range(count)
    ]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answer(
    config: Path,
    settings: KafkaSettings,
    tenant: str,
    *,
    skip: int = 0,
    twice: int = 0,
    role: Role = "live",
    number: int = 1,
) -> None:
    """Do a worker's job without a worker: score the tenant's topic with the product's scorer, planting faults."""
    document = open_configuration(config).loaded.document
    scorer = build_scorer(load_document(config), number, role, document.tenants[tenant].lane)
    topic = document.tenant_topics(tenant).events
    consumer, producer = reader(settings), client.producer(settings)
    held: dict[int, Bounds] = bounds(consumer, topic)
    for block in Reading(consumer, topic, held, 10):
        count = len(block.offsets)
        keys = [message.key() for message in block.messages]
        stamps, found_headers = [0] * count, [list[Header](found) for found in block.headers()]
        batch = Batch(
            [topic] * count,
            block.partitions,
            block.offsets,
            keys,
            block.values(),
            partial(list, stamps),
            partial(list, found_headers),
        )
        made = scorer.score(batch, 1)
        outgoing = made
        order = list(range(skip, len(outgoing.rows))) + list(range(len(outgoing.rows) - twice, len(outgoing.rows)))
        for place in order:
            row = outgoing.rows[place]
            producer.produce(outgoing.topics[place], outgoing.values[place], keys[row], partition=block.partitions[row])
        for letter in made.dead:
            provenance = headers(batch, letter.rejected, generation=1, attempt=1, worker="test")
            producer.produce(letter.topic, batch.values[letter.rejected.row], headers=list(provenance), partition=0)
        skip = twice = 0
    assert producer.flush(60) == 0
    consumer.close()


def found(capsys: Output) -> dict[str, dict[str, int]]:
    reports = json.loads(capsys.readouterr().out)
    return {
        ",".join(report["tenants"]): {finding["kind"]: finding["count"] for finding in report["findings"]}
        for report in reports
    }


def test_topics_produce_tail_and_verify(config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output) -> None:
    assert main(["topics", str(config), "--dry-run"]) == 1
    assert "what would be done" in capsys.readouterr().out
    assert main(["topics", str(config), "--partitions", "2", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert all(change["done"] for change in made["changes"])
    assert len(made["needed"]) == len(made["changes"]) == 15
    assert main(["topics", str(config), "--dry-run"]) == 0
    assert "nothing to do" in capsys.readouterr().out

    rows = events(300)
    rows[10]["tenant"] = "globex"
    file = write(tmp_path / "events.jsonl", rows)
    assert main(["produce", str(config), "acme", str(file), "--json"]) == 0
    sent = json.loads(capsys.readouterr().out)
    assert (sent["events"], sent["acknowledged"]) == (300, 300)
    assert main(["produce", str(config), "globex", str(file), "--limit", "11", "--frame", "confluent"]) == 0
    assert "11 events sent" in capsys.readouterr().out

    assert main(["verify", str(config), "acme", "--json"]) == 1
    assert found(capsys) == {"acme": {"missing": 300}}
    for tenant in ("acme", "globex"):
        answer(config, settings, tenant)
    assert main(["verify", str(config), "--json"]) == 0
    assert found(capsys) == {"acme": {}, "globex": {}, "initech,umbrella": {}}
    assert main(["verify", str(config)]) == 0
    assert "nothing wrong" in capsys.readouterr().out

    assert main(["tail", str(config), "acme", "--from-beginning", "--no-follow", "--json"]) == 0
    scores = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {score["event_id"] for score in scores} == {row["transaction_id"] for row in rows} - {"acme-10"}
    assert main(["tail", str(config), "acme", "--kind", "dlq", "--from-beginning", "--limit", "1"]) == 0
    assert "wrong-tenant" in capsys.readouterr().out
    assert main(["tail", str(config), "acme", "--from-beginning", "--limit", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert main(["tail", str(config), "globex", "--kind", "events", "--last", "3", "--no-follow"]) == 0
    assert "transaction_id=acme-" in capsys.readouterr().out


def test_planted_faults_are_counted(config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output) -> None:
    assert main(["topics", str(config), "--partitions", "1"]) == 0
    assert main(["produce", str(config), "acme", str(write(tmp_path / "e.jsonl", events(200)))]) == 0
    answer(config, settings, "acme", skip=3, twice=5)
    capsys.readouterr()
    assert main(["verify", str(config), "acme", "--json"]) == 1
    assert found(capsys) == {"acme": {"missing": 3, "duplicated": 5}}


def test_live_scores_of_audit_records_are_compared_with_the_published_ones(
    config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output
) -> None:
    """After a promotion, while the shadow worker lags: what it computes is not what the tenant got."""

    def audited() -> dict[str, int]:
        capsys.readouterr()
        assert main(["verify", str(config), "acme", "--json"]) == 0
        (report,) = json.loads(capsys.readouterr().out)
        return {name: count for name, count in report["audit"].items() if count}

    assert main(["topics", str(config), "--partitions", "2"]) == 0
    assert main(["produce", str(config), "acme", str(write(tmp_path / "e.jsonl", events(60)))]) == 0
    answer(config, settings, "acme")
    assert audited() == {}
    answer(config, settings, "acme", role="shadow")
    first = audited()["records"]
    assert first >= 60 and audited() == {"records": first}, "the same generation: the same numbers"

    promoted = config.with_name("promoted.yaml")
    promoted.write_text(config.read_text().replace("live: cards\n", "live: cautious\n"))
    answer(promoted, settings, "acme", role="shadow", number=2)
    counted = audited()
    second = counted["records"] - first
    different = counted["different"]  # ecom is answered by another route
    assert 0 < different < second == counted["other_generation"]
    assert main(["verify", str(config), "acme"]) == 0
    assert "under another generation" in capsys.readouterr().err

    answer(promoted, settings, "acme", role="shadow", number=1)  # says generation 1, and is not
    assert main(["verify", str(config), "acme", "--no-audit"]) == 0
    capsys.readouterr()
    assert main(["verify", str(config), "acme", "--json"]) == 1
    assert found(capsys) == {"acme": {"disagreeing": different}}


def test_tenants_that_share_topics(config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output) -> None:
    assert main(["topics", str(config), "--partitions", "2"]) == 0
    rows = events(60, "initech") + events(40, "umbrella") + events(5, "stranger")
    random.Random(3).shuffle(rows)
    assert main(["produce", str(config), "umbrella", str(write(tmp_path / "e.jsonl", rows))]) == 0
    answer(config, settings, "initech")
    capsys.readouterr()
    assert main(["verify", str(config), "umbrella", "--json"]) == 0
    (report,) = json.loads(capsys.readouterr().out)
    assert (report["events"], report["scores"], report["dead_letters"]) == (105, 100, 5)
    configuration = open_configuration(config)
    shown = [
        one for some in tail(configuration, settings, "umbrella", start="beginning", until_end=True) for one in some
    ]
    assert {one["tenant"] for one in shown} == {"umbrella"}
    assert len(shown) == 40
    last = [one for some in tail(configuration, settings, "umbrella", start=3, until_end=True) for one in some]
    assert [one["event_id"] for one in last if one in shown] == [one["event_id"] for one in last]
    assert len(last) == 6, "three in each of two partitions, of the tenant's own"
    unknown = tail(configuration, settings, "umbrella", "unknown", "beginning", until_end=True)
    letters = [record for records in unknown for record in records]
    assert {(one["reason"], one["event"]["tenant"]) for one in letters} == {("unknown-tenant", "stranger")}


def test_interrupt_ends_a_follower_with_130(config: Path, settings: KafkaSettings, tmp_path: Path) -> None:
    assert main(["topics", str(config), "--partitions", "1"]) == 0
    assert main(["produce", str(config), "acme", str(write(tmp_path / "e.jsonl", events(3)))]) == 0
    code = "import sys; from muse_stream.cli.main import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        code,
        "tail",
        str(config),
        "acme",
        "--kind",
        "events",
        "--from-beginning",
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["transaction_id"] == "acme-0"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=280)
    assert (process.returncode, err) == (130, "")


def test_missing_topic_is_said_with_the_command_that_makes_it(
    config: Path, settings: KafkaSettings, tmp_path: Path, capsys: Output
) -> None:
    file = write(tmp_path / "e.jsonl", events(3))
    assert main(["produce", str(config), "acme", str(file)]) == 1
    assert "muse-stream topics" in capsys.readouterr().err
    assert main(["verify", str(config), "acme"]) == 1, "who looks in the wrong place must not be told that all is well"
    assert "does not exist" in capsys.readouterr().err


def replayed(config: Path, file: Path, output: Path, *options: str) -> int:
    return main(["replay", str(config), "acme", str(file), "--output", str(output), *options])


def test_replay_scores_any_kind_of_file_to_the_same_bits(tmp_path: Path, capsys: Output) -> None:
    """JSON lines, Avro and Parquet in; Parquet and Avro out; any split into calls: one answer."""
    config, rows = EXAMPLE / "muse.yaml", events(500)
    schema = json.loads((EXAMPLE / "schemas" / "card-event.avsc").read_text())
    jsonl = write(tmp_path / "e.jsonl", rows)
    with (tmp_path / "e.avro").open("wb") as avro:
        fastavro.writer(avro, schema, rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "e.parquet")
    tables = []
    for number, file in enumerate((jsonl, tmp_path / "e.avro", tmp_path / "e.parquet")):
        assert replayed(config, file, tmp_path / f"{number}.parquet") == 0
        tables.append(pq.read_table(tmp_path / f"{number}.parquet").drop_columns(["scored_at"]))
    assert tables[0].num_rows == 500
    assert tables[0] == tables[1] == tables[2]
    assert replayed(config, jsonl, tmp_path / "s.avro") == 0
    with (tmp_path / "s.avro").open("rb") as avro:
        records: list[Any] = list(fastavro.reader(avro))
    assert [one["score"] for one in records] == tables[0]["score"].to_pylist()
    assert replayed(config, jsonl, tmp_path / "few.parquet", "--limit", "7") == 0
    assert pq.read_table(tmp_path / "few.parquet")["score"].to_pylist() == tables[0]["score"].to_pylist()[:7]


def test_replay_as_shadow_writes_audit_records_joined_with_live(tmp_path: Path, capsys: Output) -> None:
    file = write(tmp_path / "e.jsonl", events(50))
    region = ("--header", "region=br")
    assert replayed(EXAMPLE / "muse.yaml", file, tmp_path / "a.parquet", "--role", "shadow", *region) == 0
    audit = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert replayed(EXAMPLE / "muse.yaml", file, tmp_path / "s.parquet", *region) == 0
    live = {one["event_id"]: one for one in pq.read_table(tmp_path / "s.parquet").to_pylist()}
    assert len({one["event_id"] for one in audit}) == 50
    assert all(one["live_score"] == live[one["event_id"]]["score"] for one in audit)
    assert all(one["live_predictor"] != one["predictor"] for one in audit)


def test_replay_tells_what_would_be_dead_letters(tmp_path: Path, capsys: Output) -> None:
    rows = events(20)
    rows[4]["tenant"], rows[9]["transaction_id"] = "globex", ""
    file = write(tmp_path / "e.jsonl", rows)
    file.write_text("\n" + file.read_text())  # a line is a row, as in all that is said of a file, empty or not
    assert replayed(EXAMPLE / "muse.yaml", file, tmp_path / "s.parquet", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["events"], done["answers"]) == (20, 18)
    assert done["dead"] == {"wrong-tenant": 1, "missing-id": 1}
    assert [row for row, *_ in done["letters"]] == [6, 11]


def test_replay_of_a_store_is_of_its_current_generation(tmp_path: Path, capsys: Output) -> None:
    store = str(tmp_path / "store")
    assert main(["publish", str(EXAMPLE / "muse.yaml"), store]) == 0
    file = write(tmp_path / "e.jsonl", events(5))
    assert main(["replay", store, "acme", str(file), "-o", str(tmp_path / "s.parquet")]) == 0
    assert set(pq.read_table(tmp_path / "s.parquet")["generation"].to_pylist()) == {1}


@pytest.mark.parametrize("name", ["absent.parquet", "unknown.xlsx"])
def test_file_that_cannot_be_read_is_one_line(name: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "unknown.xlsx").write_text("")
    assert replayed(EXAMPLE / "muse.yaml", tmp_path / name, tmp_path / "s.parquet") == 1
    assert name in capsys.readouterr().err
    assert not (tmp_path / "s.parquet").exists()


def test_a_replay_never_takes_the_place_of_a_file_it_should_not(tmp_path: Path, capsys: Output) -> None:
    events_file = tmp_path / "events.jsonl"
    events_file.write_bytes((EXAMPLE / "events.jsonl").read_bytes())
    before = events_file.read_bytes()
    # answers cannot be JSON lines: a slip that once cost the events
    assert main(["replay", str(EXAMPLE / "muse.yaml"), "acme", str(events_file), "-o", str(events_file)]) == 1
    assert events_file.read_bytes() == before
    table = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_pylist([json.loads(line) for line in before.splitlines()]), table)
    assert main(["replay", str(EXAMPLE / "muse.yaml"), "acme", str(table), "-o", str(table)]) == 1
    assert "would take the place of the events" in capsys.readouterr().err
    assert pq.read_table(table).num_rows == len(before.splitlines())


def test_a_fault_in_a_line_is_told_as_compilers_do(tmp_path: Path, capsys: Output) -> None:
    """`file:line: ` first: a terminal makes it a link."""
    path = tmp_path / "events.jsonl"
    path.write_text('{"id": \n')
    assert replayed(EXAMPLE / "muse.yaml", path, tmp_path / "s.parquet") == 1
    assert capsys.readouterr().err.startswith(f"{path}:1: not JSON")
