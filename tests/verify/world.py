"""Topics of one tenant, written by a producer that is not the product's, and what `verify` says of them."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.kafka import client, topic_ids, topic_settings
from muse_stream.kafka.topic_reader import Block
from muse_stream.scoring.columns import Categorical
from muse_stream.verify.collect import EventKeys, ScoreKeys
from muse_stream.verify.span import Span
from muse_stream.verify.verification import Decoders, Known, Report, Target, Verification
from tests.patience import until

PLAIN = {"enable.idempotence": False, "max.in.flight": 1}
"""A producer that needs no id: faster."""


def decode_events(block: Block) -> EventKeys:
    """SeenEvents are `id` or `id|tenant`; anything with a `!` cannot be decoded."""
    rows = [row for row, value in enumerate(block.values()) if value and b"!" not in value]
    parts = [(block.messages[row].value() or b"").decode().split("|") for row in rows]
    tenants = Categorical.from_strings(part[1] for part in parts) if parts and len(parts[0]) > 1 else None
    return EventKeys(np.array(rows, dtype=np.int64), np.array([part[0] for part in parts], dtype="S"), tenants)


def decode_scores(block: Block) -> ScoreKeys:
    """Scores are `id|tenant|topic|partition|offset`."""
    rows = [row for row, value in enumerate(block.values()) if value and b"!" not in value]
    parts = [(block.messages[row].value() or b"").decode().split("|") for row in rows]
    return ScoreKeys(
        np.array(rows, dtype=np.int64),
        np.array([part[0] for part in parts], dtype="S"),
        Categorical.from_strings(part[1] for part in parts),
        Categorical.from_strings(part[2] for part in parts),
        np.array([part[3] for part in parts], dtype=np.int64),
        np.array([part[4] for part in parts], dtype=np.int64),
    )


@dataclass
class World:
    """Topics of one tenant `acme` (and whoever is added), and a producer that is not the product's."""

    settings: KafkaSettings
    events: str
    scores: str
    dead: str
    producer: Producer
    make_transactional: Callable[[], Producer]
    sent: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.admin = AdminClient({"bootstrap.servers": self.settings.bootstrap})

    def event(self, value: str, partition: int = 0, timestamp: int = 0) -> int:
        """Put an event, return its offset."""
        offset = self.sent.get(partition, 0)
        self.sent[partition] = offset + 1
        self.producer.produce(self.events, value.encode(), partition=partition, timestamp=timestamp)
        return offset

    def score(self, id: str, offset: int, partition: int = 0, *, tenant: str = "acme", topic: str = "") -> None:
        value = f"{id}|{tenant}|{topic or self.events}|{partition}|{offset}"
        self.producer.produce(self.scores, value.encode(), partition=partition)

    def letter(self, offset: int, partition: int = 0, topic: str = "") -> None:
        headers = {"topic": topic or self.events, "partition": str(partition), "offset": str(offset)}
        named: list[tuple[str, str | bytes | None]] = [(f"muse.source.{key}", value) for key, value in headers.items()]
        self.producer.produce(self.dead, b"original", partition=0, headers=named)

    def answered(self, count: int, partition: int = 0, prefix: str = "e", timestamp: int = 0) -> None:
        for number in range(count):
            self.score(f"{prefix}{number}", self.event(f"{prefix}{number}", partition, timestamp), partition)

    def marker_written(self, end: int) -> None:
        """Wait until the events' partition 0 ends at `end`: a transaction's end is written after it was answered."""
        unstable = client.consumer(self.settings, **{"group.id": "g", "isolation.level": "read_uncommitted"})
        with closing(unstable) as reader:
            place = TopicPartition(self.events, 0)
            until(lambda: reader.get_watermark_offsets(place, timeout=60) == (0, end), 20)

    def remove(self, topic: str, before: int, partition: int = 0) -> None:
        """Remove records below an offset, as retention does; -1 removes all."""
        assert self.producer.flush(60) == 0
        answers = self.admin.delete_records([TopicPartition(topic, partition, before)])
        for answer in answers.values():
            answer.result(timeout=60)

    def recreate(self, topic: str, *, partitions: int = 2, config: dict[str, str] | None = None) -> None:
        """Delete a topic and create it again."""
        assert self.producer.flush(60) == 0
        before = topic_ids(self.admin, [topic])
        (gone,) = self.admin.delete_topics([topic]).values()
        gone.result(timeout=60)

        def created() -> bool:
            (made,) = self.admin.create_topics([NewTopic(topic, partitions, 1, config=config or {})]).values()
            try:
                made.result(timeout=60)
            except KafkaException:  # the old one is still being deleted
                return False
            return True

        until(created, 20)
        if topic == self.events:
            self.sent.clear()
        self.producer = client.producer(self.settings, **PLAIN)  # the other one still knows the old topic
        # until the broker has heard of both, it takes records for the old one
        until(lambda: (now := topic_ids(self.admin, [topic])) and now != before, 20)

    def verify(
        self,
        *,
        group: str | None = None,
        settle_s: float = 10.0,
        tenants: tuple[str, ...] = ("acme",),
        span: Span | None = None,
    ) -> Report:
        assert self.producer.flush(60) == 0
        told = topic_settings(self.admin, [self.events, self.scores, self.dead])
        known = Known(
            frozenset(name for name, one in told.items() if "compact" in one["cleanup.policy"]),
            {name: int(one["retention.ms"]) for name, one in told.items()},
            topic_ids(self.admin, [self.events]),
        )
        target = Target(
            self.events,
            tenants,
            {self.scores: frozenset(tenants)},
            {self.dead: frozenset({self.events})},
            dict.fromkeys(tenants, self.events) | {"globex": "events-of-globex"},
        )
        decoders = Decoders({self.events: decode_events}, decode_scores)
        run = Verification(self.settings, decoders, group=group, known=known, span=span, settle_s=settle_s)
        (report,) = run.run([target])
        return report


def found(report: Report) -> dict[str, int]:
    return {finding.kind: finding.count for finding in report.findings}
