"""The peer `per-event`: consume, score each event, produce; a transaction for each batch, as confluent-kafka advises.

`python -m perf.peers.per_event SETTINGS.json` serves until SIGTERM. The shape is that of the library's example of
exactly-once (`eos-transactions.py`): offsets go into the producer's transaction. Batches are as large as what has come,
10,000 events at most; nothing is done for events together.
"""

import json
import signal
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from perf.peers.scoring import EventScorer

MOST = 10_000


def serve(settings: dict[str, Any]) -> None:
    """Score until SIGTERM."""
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    scorer = EventScorer(settings)
    consumer = Consumer(
        {
            "bootstrap.servers": settings["bootstrap"],
            "group.id": settings["group"],
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    producer = Producer(
        {
            "bootstrap.servers": settings["bootstrap"],
            "transactional.id": settings["group"],
            "linger.ms": 5,
            "compression.type": "lz4",
            "delivery.report.only.error": True,
        }
    )
    producer.init_transactions()
    consumer.subscribe([settings["topic"]])
    while not stopped:
        messages = [one for one in consumer.consume(MOST, settings["commit_ms"] / 1000) if one.error() is None]
        if messages:
            _transaction(scorer, consumer, producer, messages, settings["out"])
    consumer.close()


def _transaction(
    scorer: EventScorer, consumer: Consumer, producer: Producer, messages: list[Message], out: str
) -> None:
    producer.begin_transaction()
    ends: dict[tuple[str, int], int] = {}
    for message in messages:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        event = scorer.decode(message.value() or b"")
        while True:
            try:
                producer.produce(out, scorer.encode(event, scorer.score(event), topic, partition, offset))
                break
            except BufferError:
                producer.poll(0.1)
        ends[topic, partition] = offset + 1
    offsets = [TopicPartition(topic, partition, end) for (topic, partition), end in ends.items()]
    producer.send_offsets_to_transaction(offsets, consumer.consumer_group_metadata())
    producer.commit_transaction()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
