"""A tenant's score and audit records on topics, as workers write them, and among them what is none."""

import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from muse_stream.avro import RowEncoder
from muse_stream.config import KafkaSettings, load_document
from muse_stream.demo.training import ASSETS
from muse_stream.kafka import client
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.testing import Broker
from tests.patience import until
from tests.transactions import await_decided

START_MS = 1_780_000_000_000
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


def fill(bank: Bank, mark: str) -> None:
    """Write five events of acme and what two predictors say; others' records, aborted ones, and what is no record."""
    scores = [(0, 0.9), (1, 0.1), (2, 0.7), (3, 0.85), (4, 0.2)]
    producer = bank.producer(mark)
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
