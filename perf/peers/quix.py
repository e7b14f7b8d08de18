"""The peer `quixstreams`: the same steps as a streaming data frame, exactly once.

`python quix.py SETTINGS.json` serves until SIGTERM, in the environment of quixstreams.lock (the library pins another
version of confluent-kafka than this project). A data frame hands over one event at a time; commits are as far apart as
those of Kafka Streams.
"""

import json
import sys
from pathlib import Path
from typing import Any

from quixstreams import Application, message_context  # type: ignore[import-not-found]  # of its own environment
from quixstreams.models import BytesDeserializer, BytesSerializer  # type: ignore[import-not-found]
from scoring import EventScorer  # type: ignore[import-not-found]  # the file beside this one


def serve(settings: dict[str, Any]) -> None:
    """Score until SIGTERM."""
    scorer = EventScorer(settings)
    app = Application(
        broker_address=settings["bootstrap"],
        consumer_group=settings["group"],
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=settings["commit_ms"] / 1000,
        producer_extra_config={"linger.ms": 5, "compression.type": "lz4"},
        auto_create_topics=False,
        loglevel="WARNING",
    )
    topic = app.topic(settings["topic"], value_deserializer=BytesDeserializer())
    out = app.topic(settings["out"], value_serializer=BytesSerializer())

    def scored(value: bytes) -> bytes:
        event, place = scorer.decode(value), message_context()
        answer: bytes = scorer.encode(event, scorer.score(event), place.topic, place.partition, place.offset)
        return answer

    app.dataframe(topic).apply(scored).to_topic(out)
    app.run()


if __name__ == "__main__":
    serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
