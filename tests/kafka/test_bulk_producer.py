"""Events arrive complete, in order, in the partition their key says, at the rate asked for."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import pytest

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Fatal
from muse_stream.kafka.bulk_producer import Chunk, Ingest
from muse_stream.kafka.tail import Record, follow
from muse_stream.testing.kafka_broker import Broker
from tests.patience import until


@pytest.fixture
def settings(kafka: Broker) -> KafkaSettings:
    return KafkaSettings(bootstrap=kafka.bootstrap)


def read(settings: KafkaSettings, topic: str) -> list[Record]:
    return [record for records in follow(settings, topic, "beginning", until_end=True) for record in records]


def chunks(count: int, keys: int, size: int = 500) -> Iterator[Chunk]:
    for first in range(0, count, size):
        rows = range(first, min(first + size, count))
        yield Chunk([f"event {row}".encode() for row in rows], [f"key {row % keys}".encode() for row in rows])


def murmur2(data: bytes) -> int:
    """Kafka's Java partitioner hash (org.apache.kafka.common.utils.Utils.murmur2), as a reference."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    for start in range(0, len(data) // 4 * 4, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    tail = data[len(data) // 4 * 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_all_arrive_in_order_where_java_producers_would_put_them(
    settings: KafkaSettings, make_topic: Callable[..., str]
) -> None:
    topic = make_topic("events", partitions=3)
    seen: list[int] = []
    sent = Ingest(settings, topic, headers={"region": "br"}, progress=seen.append).run(chunks(2_000, keys=17))
    assert (sent.events, sent.acknowledged, sent.late_s) == (2_000, 2_000, 0.0)
    assert seen == sorted(seen)
    assert seen[-1] == 2_000
    records = read(settings, topic)
    assert sorted(record.value or b"" for record in records) == sorted(f"event {row}".encode() for row in range(2_000))
    per_key: dict[bytes, list[int]] = defaultdict(list)
    for record in sorted(records, key=lambda record: (record.partition, record.offset)):
        key = record.key or b""
        assert record.partition == (murmur2(key) & 0x7FFFFFFF) % 3
        assert record.headers == (("region", b"br"),)
        per_key[key].append(int((record.value or b"").split()[1]))
    assert all(rows == sorted(rows) for rows in per_key.values())
    assert len(per_key) == 17


def test_timestamps_and_missing_keys(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic = make_topic("events", partitions=2)
    now = time.time_ns() // 1_000_000
    Ingest(settings, topic).run([Chunk([b"a", b"b"], [None, b""], [now - 5000, now - 4000])])
    assert sorted((record.value, record.timestamp) for record in read(settings, topic)) == [
        (b"a", now - 5000),
        (b"b", now - 4000),
    ]


def test_rate_is_an_open_loop_schedule(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic = make_topic("events")
    start, start_ms = time.monotonic(), time.time_ns() // 1_000_000
    sent = Ingest(settings, topic, rate=400).run(chunks(200, keys=5))
    assert time.monotonic() - start >= 199 / 400
    assert sent.acknowledged == 200
    stamps = [record.timestamp for record in read(settings, topic)]
    # a machine that is late catches up: none is sent before its time, and that is all that can be said
    early = [row for row, stamp in enumerate(stamps) if stamp - start_ms < row * 1_000 / 400 - 10]
    assert early == [], "spread over the half second, not sent at once"


@pytest.mark.parametrize("rate", [0, -1.0])
def test_rate_that_sends_nothing_is_refused(settings: KafkaSettings, rate: float) -> None:
    with pytest.raises(ValueError, match="sends nothing"):
        Ingest(settings, "any", rate=rate)


def test_refused_event_is_an_error_with_its_reason(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic = make_topic("events", **{"max.message.bytes": "1000"})
    with pytest.raises(Fatal, match=f"{topic}: the record is larger than the topic takes .MSG_SIZE_TOO_LARGE"):
        Ingest(settings, topic).run([Chunk([random.Random(5).randbytes(5000)], [None])])


def test_event_of_many_megabytes_is_for_the_topic_to_refuse(
    settings: KafkaSettings, make_topic: Callable[..., str]
) -> None:
    topic = make_topic("events", **{"max.message.bytes": "9000000"})
    assert Ingest(settings, topic).run([Chunk([bytes(8_000_000)], [None])]).acknowledged == 1


def test_interrupt_flushes_what_was_sent(settings: KafkaSettings, make_topic: Callable[..., str]) -> None:
    topic, before = make_topic("events"), set(threading.enumerate())

    def interrupted() -> Iterator[Chunk]:
        yield from chunks(100, keys=3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Ingest(settings, topic).run(interrupted())
    assert len(read(settings, topic)) == 100
    until(lambda: set(threading.enumerate()) <= before, 20, lambda: str(threading.enumerate()))
