"""`fit` on a real broker: maps of score and audit records of a window, printed, written and published."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.avro import RowEncoder
from muse_stream.calibration import FittedMap, Reference
from muse_stream.cli.main import main
from muse_stream.commands import fit_samples
from muse_stream.config import KafkaSettings, load_document, pre_map_hash
from muse_stream.control import open_store
from muse_stream.demo.training import ASSETS
from muse_stream.kafka import client
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.testing import Broker

Output = pytest.CaptureFixture[str]
EVENTS = 600
START_MS = 1_780_000_000_000


class Bank:
    """A store with the demo's first generation, and topics that hold what a test puts there."""

    def __init__(self, kafka: Broker, folder: Path, mark: str) -> None:
        shutil.copytree(ASSETS, folder / "config")
        self.file = folder / "config" / "muse.yaml"
        topics = {kind: f"{mark}.{kind}.{{tenant}}" for kind in ("events", "scores", "audit", "dlq")}
        self.file.write_text(f"{self.file.read_text()}topics: {json.dumps(topics)}\n")
        self.store = str(folder / "store")
        assert main(["publish", str(self.file), self.store]) == 0
        self.document = load_document(self.file).document
        assert main(["topics", self.store, "--partitions", "1", "--replication", "1"]) == 0
        self._producer = client.producer(KafkaSettings.from_environment())
        self._schemas = output_schemas()
        self._written = 0

    def write(self, kind: str, tenant: str, values: object, *, generation: int = 1, live: object = None) -> None:
        """Write one record of each value: scores of cards-g1, or audit records of cards-g2 beside them."""
        encoder = RowEncoder(self._schemas.by_file("score.avsc" if kind == "scores" else "audit.avsc"))
        topic = getattr(self.document.tenant_topics(tenant), kind)
        lived = values if live is None else live
        for value, of_live in zip(np.asarray(values).tolist(), np.asarray(lived).tolist(), strict=True):
            self._written += 1
            record = {
                "event_id": f"{tenant}-{self._written}", "tenant": tenant, "score": value, "aggregate": value,
                "predictor": "cards-g1" if kind == "scores" else "cards-g2", "predictor_version": 1,
                "generation": generation, "event_time": START_MS + 1_000 * self._written, "scored_at": START_MS,
                "source_topic": "t", "source_partition": 0, "source_offset": self._written, "attempt": 1,
                "intent": {}, "error": None, "experts": [], "live_predictor": "cards-g1", "live_predictor_version": 1,
                "live_score": of_live, "live_aggregate": of_live, "live_generation": generation,
            }  # fmt: skip
            self._producer.produce(topic, encoder.encode(record), f"card-{self._written % 200}")
            self._producer.poll(0)
        assert self._producer.flush(60) == 0


@pytest.fixture
def bank(kafka: Broker, tmp_path: Path, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Bank:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap)
    return Bank(kafka, tmp_path, unique("f"))


def sample(seed: int, events: int = EVENTS) -> np.ndarray:
    return np.random.default_rng(seed).beta(1, 20, events)


def run(capsys: Output, *words: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["fit", *words])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_maps_are_fitted_to_topics_and_published_on_their_evidence(bank: Bank, capsys: Output) -> None:
    values = {tenant: sample(number) for number, tenant in enumerate(bank.document.tenants)}
    for tenant, own in values.items():
        bank.write("scores", tenant, own)
    bank.write("scores", "acme", sample(9, 50) / 2, generation=7)  # of a generation that the store does not have
    words = [bank.store, "cards-g1", "--from", "scores", "--store", bank.store, "--policy", "own"]
    code, said = run(capsys, *words, "--dry-run")
    assert code == 0, said
    assert "nothing was published" in said
    assert "tenant acme: 50 events are left out" in said
    assert run(capsys, *words)[0] == 2  # no terminal to ask on
    code, said = run(capsys, *words, "--yes", "--message", "first maps", "--json")
    assert code == 0, said
    facts = json.loads(said)
    assert (facts["changed"], facts["number"], facts["tenants"]["acme"]["events"]) == (True, 2, EVENTS)
    assert facts["tenants"]["acme"]["entities"] == 200  # the Kafka key
    store = open_store(bank.store)
    loaded = load_document(store.open(2).path)
    maps = json.loads((loaded.root / loaded.document.maps["cards-g1-acme"].model_dump()["file"]).read_text())
    promise = Reference.from_alert_rates({0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05})
    expected = FittedMap.fit(values["acme"], promise, pre_map_hash(loaded.document, "cards-g1"), ("acme",))
    assert maps == expected.to_json()
    entry = store.list()[-1]
    assert entry.message == "first maps"
    assert entry.evidence is not None and entry.evidence["fitted"]["tenants"] == facts["tenants"]


def test_a_shadow_and_the_live_predictor_are_fitted_to_the_same_audit_records(bank: Bank, capsys: Output) -> None:
    shadow, live = sample(1), sample(2)
    bank.write("audit", "acme", shadow, live=live)
    bank.write("audit", "acme", [0.5], generation=1, live=[float("nan")])
    for predictor, values in (("cards-g2", [*shadow, 0.5]), ("cards-g1", live)):
        words = [str(bank.file), predictor, "--from", "audit", "--tenant", "acme", "--policy", "own", "--json"]
        code, said = run(capsys, *words)
        assert code == 0, said
        (fitted,) = json.loads(said)["maps"].values()
        promise = Reference.from_alert_rates({0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05})
        assert fitted["values"] == FittedMap.fit(values, promise).values.tolist()
    code, said = run(capsys, *words, "--since", "1h", "--until", "0s")
    assert code == 0, said
    code, said = run(capsys, *words, "--until", "9h")  # nothing was written so long ago
    assert (code, "tenant acme has no events" in said) == (2, True)


def test_records_of_another_content_of_the_predictor_do_not_count(bank: Bank, capsys: Output) -> None:
    text = bank.file.read_text()
    other = text.replace("weight: 3.0", "weight: 2.0", 1).replace("version: 1\n    experts", "version: 3\n    experts")
    bank.file.write_text(other)
    assert main(["publish", str(bank.file), bank.store, "--yes"]) == 0
    bank.file.write_text(text)
    bank.write("scores", "acme", sample(1))
    bank.write("scores", "acme", sample(2, 100), generation=2)
    words = [str(bank.file), "cards-g1", "--from", "scores", "--tenant", "acme", "--policy", "own"]
    of_store = ["--write", str(bank.file), "--store", bank.store, "--dry-run"]
    for more, counted in ((of_store, (EVENTS, 100)), ([], (100, EVENTS))):
        code, said = run(capsys, *words, *more, "--json")  # without a store, nothing tells: the newest counts
        assert code == 0, said
        acme = json.loads(said)["tenants"]["acme"]
        assert (acme["events"], acme["left_out"]) == counted


def test_a_window_whose_beginning_is_gone_is_refused_unless_it_is_meant(bank: Bank, capsys: Output) -> None:
    bank.write("scores", "acme", sample(1))
    topic = bank.document.tenant_topics("acme").scores
    admin = AdminClient({"bootstrap.servers": KafkaSettings.from_environment().bootstrap})
    (removed,) = admin.delete_records([TopicPartition(topic, 0, 100)]).values()
    assert removed.result().low_watermark == 100
    words = [str(bank.file), "cards-g1", "--from", "scores", "--tenant", "acme", "--policy", "own", "--json"]
    code, said = run(capsys, *words, "--since", "10h")
    assert code == 2
    assert f"the window has a gap: {topic}[0]: what stood before offset 100 is gone (retention)" in said
    for more in (["--since", "10h", "--gaps"], []):
        code, said = run(capsys, *words, *more)
        assert (code, json.loads(said)["tenants"]["acme"]["events"]) == (0, EVENTS - 100)


def test_a_window_that_ends_behind_an_open_transaction_is_refused_unless_it_is_meant(
    bank: Bank, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    monkeypatch.setattr(fit_samples, "SETTLE_S", 0.5)
    bank.write("scores", "acme", sample(1))
    topic = bank.document.tenant_topics("acme").scores
    producer = client.producer(KafkaSettings.from_environment(), **{"transactional.id": unique("open")})
    producer.init_transactions(60)
    producer.begin_transaction()
    producer.produce(topic, b"not decided")
    assert producer.flush(60) == 0
    words = [str(bank.file), "cards-g1", "--from", "scores", "--tenant", "acme", "--policy", "own", "--json"]
    code, said = run(capsys, *words)
    assert (code, f"records from offset {EVENTS} of {topic}[0] on stand behind an open transaction" in said) == (
        2,
        True,
    )
    code, said = run(capsys, *words, "--gaps")
    assert (code, json.loads(said)["tenants"]["acme"]["events"]) == (0, EVENTS)
    producer.abort_transaction(60)


def test_records_whose_values_are_no_scores_are_refused(bank: Bank, capsys: Output) -> None:
    bank.write("scores", "acme", [*sample(1, 100), 1.5])
    code, said = run(capsys, str(bank.file), "cards-g1", "--from", "scores", "--tenant", "acme", "--policy", "own")
    assert (code, "tenant acme: 1 values are no score, a number in [0, 1], as 1.5" in said) == (2, True), said


def test_what_does_not_go_together_is_refused_before_anything_is_read(bank: Bank, capsys: Output) -> None:
    for words, says in {
        ("--from", "scores", "--entity", "card"): "columns belong to a file",
        ("--from", "x.csv", "--since", "1d"): "a window of time belongs to topics",
        ("--from", "x.csv", "--time", "at"): "events have their own time",
        ("--from", "x.csv", "--scores", "p", "--label", "y"): "a beta is estimated from events",
        ("--from", "x.csv", "--beta", "m=0.5", "--label", "y"): "give a known --beta, or a --label",
        ("--from", "x.csv", "--beta", "m=1.5"): "1.5 is no share of the negatives",
        ("--from", "x.csv", "--policy", "best"): "'best' is no policy",
        ("--from", "x.csv", "--tenant", "acme"): "no such file",
        ("--from", "x.txt", "--scores", "p", "--tenant", "acme"): "not a table that can be read",
    }.items():
        code, said = run(capsys, str(bank.file), "cards-g1", *words)
        assert code in (1, 2) and says in " ".join(said.split()).replace("│ │ ", ""), (words, said)
