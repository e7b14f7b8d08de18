"""docs/for-score-readers.md: what it says of schemas and headers is so, and its examples run as they stand."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from muse_stream.cli.main import main
from muse_stream.commands.configuration import open_configuration
from muse_stream.commands.schema import DEAD_LETTER
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Reason, Rejected, Stage
from muse_stream.kafka import client, follow
from muse_stream.runtime.batch_scorer import build_scorer
from muse_stream.testing.kafka_broker import Broker
from muse_stream.testing.kafka_jars import missing_tools
from muse_stream.worker import Batch
from muse_stream.worker.dead_letter import headers
from tests.cli.test_commands import EXAMPLE, events, write
from tests.transactions import await_decided

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "for-score-readers.md").read_text(encoding="utf-8")
COUNT = 40
LACKING = missing_tools()
Output = pytest.CaptureFixture[str]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def settings(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return KafkaSettings.from_environment()


@pytest.fixture
def config(tmp_path: Path, unique: Callable[[str], str], settings: KafkaSettings) -> Path:
    """The example, with events, scores and audit records on topics that no other test has."""
    shutil.copytree(EXAMPLE, tmp_path / "config")
    path = tmp_path / "config" / "muse.yaml"
    mark = unique("readers")
    path.write_text(path.read_text().replace("muse.", f"{mark}.").replace("globex.risk", f"{mark}.risk"))
    assert main(["topics", str(path), "--partitions", "1"]) == 0
    assert main(["produce", str(path), "acme", str(write(tmp_path / "e.jsonl", events(COUNT)))]) == 0
    for role in ("live", "shadow"):
        answer(path, settings, role, unique(role))
    return path


def answer(config: Path, settings: KafkaSettings, role: Any, name: str) -> None:
    """Do a worker's job: answer the events of one topic in a transaction, lz4 and all, after one that is aborted."""
    loaded = open_configuration(config).loaded
    topic = loaded.document.tenant_topics("acme").events
    records = [one for some in follow(settings, topic, "beginning", until_end=True) for one in some]
    count = len(records)
    batch = Batch(
        [topic] * count,
        [one.partition for one in records],
        [one.offset for one in records],
        [one.key for one in records],
        [one.value for one in records],
        lambda: [one.timestamp for one in records],
        lambda: [[("region", b"pt")]] * count,
    )
    answers = build_scorer(loaded, 1, role, "main").score(batch, 0)
    assert answers.values and not answers.dead
    producer = client.producer(settings, **{"transactional.id": name, "compression.type": "lz4"})
    producer.init_transactions(60)
    for commit in (False, True):
        producer.begin_transaction()
        for output, value, row in zip(answers.topics, answers.values, answers.rows, strict=True):
            producer.produce(output, value, records[row].key)
        producer.flush(60)
        producer.commit_transaction(60) if commit else producer.abort_transaction(60)
    await_decided(settings.bootstrap, *set(answers.topics))


@pytest.fixture
def expected(config: Path, settings: KafkaSettings, capsys: Output) -> list[dict[str, Any]]:
    """The scores, as `tail` shows them."""
    capsys.readouterr()
    assert main(["tail", str(config), "acme", "--from-beginning", "--no-follow", "--json"]) == 0
    scores = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(scores) == COUNT
    return scores


def reads(command: list[str], folder: Path, expected: list[dict[str, Any]]) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [(id_, float(score)) for id_, score, _ in lines] == [(one["event_id"], one["score"]) for one in expected]
    assert all(moment.startswith("2026-05-28T") for _, _, moment in lines), lines[0]


def test_the_python_example(
    config: Path, settings: KafkaSettings, tmp_path: Path, unique: Callable[[str], str], expected: list[dict[str, Any]]
) -> None:
    (code,) = blocks("python")
    (tmp_path / "read_scores.py").write_text(code)
    assert main(["schema", "--record", "score", "-o", str(tmp_path / "score.avsc")]) == 0
    topic = open_configuration(config).loaded.document.tenant_topics("acme").scores
    arguments = [settings.bootstrap, topic, unique("group"), "score.avsc", str(COUNT)]
    reads([sys.executable, "read_scores.py", *arguments], tmp_path, expected)


@pytest.mark.long  # Maven and a JVM; the test before is the same in Python
@pytest.mark.skipif(bool(LACKING), reason=f"Java cannot be asked: {LACKING}")
def test_the_java_example(
    config: Path, settings: KafkaSettings, tmp_path: Path, unique: Callable[[str], str], expected: list[dict[str, Any]]
) -> None:
    (pom,), (code,) = blocks("xml"), blocks("java")
    fetch, run = next(block for block in blocks("bash") if "mvn" in block).splitlines()
    (tmp_path / "pom.xml").write_text(pom)
    (tmp_path / "ReadScores.java").write_text(code)
    assert main(["schema", "--record", "score", "-o", str(tmp_path / "score.avsc")]) == 0
    done = subprocess.run(["bash", "-ec", fetch], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    topic = open_configuration(config).loaded.document.tenant_topics("acme").scores
    given = {"MUSE_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap, "TOPIC": topic, "COUNT": str(COUNT)}
    exports = "".join(f"export {name}={value}; " for name, value in given.items())
    reads(["bash", "-ec", exports + run.replace("acme.rules", unique("group"))], tmp_path, expected)


@pytest.mark.long  # three programs; the first test has how scores are read
def test_the_duckdb_example(
    config: Path, settings: KafkaSettings, tmp_path: Path, expected: list[dict[str, Any]]
) -> None:
    script = next(block for block in blocks("bash") if "muse-stream tail" in block)
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith("MUSE_KAFKA_")},
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
        "CONFIG": str(config),
    }
    subprocess.run(["bash", "-ec", script], cwd=tmp_path, env=environment, check=True, timeout=200)
    audits = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    rates, changed = (
        duckdb.execute(
            query.replace("'scores.", f"'{tmp_path}/scores.").replace("'audit.", f"'{tmp_path}/audit.")
        ).fetchall()
        for query in blocks("sql")
    )
    by_version: dict[tuple[str, int], list[float]] = {}
    for one in expected:
        by_version.setdefault((one["predictor"], one["predictor_version"]), []).append(one["score"])
    assert rates == [
        (*who, len(scores), pytest.approx(sum(score >= 0.8 for score in scores) / len(scores)))
        for who, scores in sorted(by_version.items())
    ]
    of_event = {one["source_offset"]: one["score"] for one in expected}
    shadows: dict[str, list[tuple[bool, bool]]] = {}
    for audit in audits:
        alerts = (of_event[audit["source_offset"]] >= 0.8, audit["score"] >= 0.8)
        shadows.setdefault(audit["predictor"], []).append(alerts)
    assert changed == [
        (name, len(found), sum(alert for alert, _ in found), sum(alert for _, alert in found))
        for name, found in sorted(shadows.items())
    ]


@pytest.mark.parametrize("record", ["score", "audit"])
def test_the_schema_that_is_printed_is_the_one_in_the_frame(
    config: Path, settings: KafkaSettings, capsys: Output, record: str
) -> None:
    capsys.readouterr()
    assert main(["schema", "--record", record, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    topics = open_configuration(config).loaded.document.tenant_topics("acme")
    topic = topics.scores if record == "score" else topics.audit
    records = [one for some in follow(settings, topic, "beginning", until_end=True) for one in some]
    assert {(one.value or b"")[:10].hex() for one in records} == {said["frame"]} == {"c301" + said["fingerprint"]}
    assert main(["schema", "--record", record]) == 0
    assert json.loads(capsys.readouterr().out) == said["schema"]
    assert main(["schema", "--record", record, "--canonical"]) == 0
    assert capsys.readouterr().out == said["canonical"] + "\n"
    for field in said["schema"]["fields"]:
        assert record != "score" or f"`{field['name']}`" in PAGE, field["name"]


def test_the_schema_of_dead_letters_names_every_header(capsys: Output) -> None:
    batch = Batch(["t"], [0], [0], [None], [b"x"], lambda: [0], lambda: [[]])
    rejected = Rejected(0, Reason.UNDECODABLE, Stage.DECODE, "why")
    written = {name for name, _ in headers(batch, rejected, generation=1, attempt=1, worker="w", tenant="acme")}
    fields: Any = DEAD_LETTER["fields"]
    assert {field["header"] for field in fields if "header" in field} == written
    assert main(["schema", "--record", "dlq"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(DEAD_LETTER))
    for name in written:
        assert f"`{name}`" in PAGE or f"`.{name.rpartition('.')[2]}`" in PAGE, name


def test_what_is_about_an_avro_schema_asks_for_one(capsys: Output) -> None:
    assert main(["schema", "--canonical"]) == 2
    assert "--record" in capsys.readouterr().err
    assert main(["schema"]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)
