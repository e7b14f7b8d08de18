"""The end of a transaction, as readers of committed records see it."""

from contextlib import closing

from confluent_kafka import Consumer, TopicPartition

from tests.patience import until


def await_decided(bootstrap: str, *topics: str) -> None:
    """Return when no transaction is open on these topics: commits and aborts are answered before that is so."""
    own = {"bootstrap.servers": bootstrap, "group.id": "none", "log_level": 0}
    with (
        closing(Consumer({**own, "isolation.level": "read_uncommitted"})) as every,
        closing(Consumer(own)) as committed,
    ):
        counts = {topic: len(every.list_topics(topic, timeout=60).topics[topic].partitions) for topic in topics}
        places = [TopicPartition(topic, number) for topic, count in counts.items() for number in range(count)]

        def ends(reader: Consumer) -> list[int]:
            return [reader.get_watermark_offsets(place, timeout=60)[1] for place in places]

        until(lambda: ends(every) == ends(committed), 20, lambda: f"{places}: {ends(every)}, {ends(committed)} decided")
