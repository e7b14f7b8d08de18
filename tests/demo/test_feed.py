"""The tenants' producers: order, pace, and what happens when one of them fails or the run ends."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.demo import feed as module
from muse_stream.demo.feed import Feed
from muse_stream.demo.scenario import Slice
from muse_stream.errors import MuseError
from muse_stream.kafka.bulk_producer import Chunk

Eventually = Callable[..., None]
TOPICS = {"acme": "events.acme", "globex": "events.globex"}


class Producers:
    """Stands in for Kafka: what reached which topic, in order."""

    def __init__(self) -> None:
        self.got: dict[str, list[bytes]] = {topic: [] for topic in TOPICS.values()}
        self.broken = threading.Event()

    def ingest(self, _settings: KafkaSettings, topic: str, *, progress: Callable[[int], object]) -> "Producers.One":
        return Producers.One(self, topic, progress)

    class One:
        def __init__(self, all_of_them: "Producers", topic: str, progress: Callable[[int], object]) -> None:
            self.all, self.topic, self.progress = all_of_them, topic, progress

        def run(self, chunks: Iterable[Chunk]) -> None:
            for chunk in chunks:
                if self.all.broken.is_set():
                    raise OSError("no route")
                self.all.got[self.topic] += chunk.values
                self.progress(len(self.all.got[self.topic]))

    @property
    def count(self) -> int:
        return sum(map(len, self.got.values()))


@pytest.fixture
def producers(monkeypatch: pytest.MonkeyPatch) -> Producers:
    found = Producers()
    monkeypatch.setattr(module, "Ingest", found.ingest)
    return found


def stream(events: int, size: int = 700) -> Iterator[Slice]:
    for first in range(0, events, size):
        rows = range(first, min(first + size, events))
        yield Slice(np.array(rows, dtype=np.int32) % 2, [b"%d" % row for row in rows], [b"k"] * len(rows))


def test_every_event_reaches_its_tenants_topic_in_order(producers: Producers, eventually: Eventually) -> None:
    with Feed(KafkaSettings(), TOPICS, lambda: stream(10_000), rate=None) as feed:
        feed.go()
        eventually(lambda: feed.done)
        feed.check()
    assert producers.got["events.acme"] == [b"%d" % row for row in range(0, 10_000, 2)]
    assert producers.got["events.globex"] == [b"%d" % row for row in range(1, 10_000, 2)]
    assert feed.sent == 10_000


def test_only_the_first_slice_goes_out_before_the_workers_answer(producers: Producers, eventually: Eventually) -> None:
    with Feed(KafkaSettings(), TOPICS, lambda: stream(1_000), rate=2_000.0) as feed:
        eventually(lambda: feed.sent == 100)  # what is due within 50 ms
        assert not feed.done
        feed.go()
        eventually(lambda: feed.done)
    assert producers.count == 1_000


def test_the_pace_is_the_rates_and_nobody_elses(producers: Producers, eventually: Eventually) -> None:
    with Feed(KafkaSettings(), TOPICS, lambda: stream(1_000), rate=2_000.0) as feed:
        started = time.monotonic()
        feed.go()
        eventually(lambda: feed.done)
        took = time.monotonic() - started
    assert 0.4 < took < 10.0


def test_a_run_that_ends_early_has_sent_a_beginning_of_the_stream(producers: Producers, eventually: Eventually) -> None:
    feed = Feed(KafkaSettings(), TOPICS, lambda: stream(100_000), rate=4_000.0)
    with feed:
        feed.go()
        eventually(lambda: feed.sent > 500)
    assert feed.done
    sent = sorted(int(value) for values in producers.got.values() for value in values)
    assert sent == list(range(feed.sent))
    assert feed.sent < 100_000


def test_a_producer_that_fails_is_told_and_does_not_hang_the_run(producers: Producers, eventually: Eventually) -> None:
    producers.broken.set()
    with Feed(KafkaSettings(), TOPICS, lambda: stream(100_000), rate=None) as feed:
        feed.go()
        eventually(lambda: feed.done)
        with pytest.raises(MuseError, match="did not reach Kafka: no route"):
            feed.check()


def test_a_source_that_fails_is_told(producers: Producers, eventually: Eventually) -> None:
    def torn() -> Iterator[Slice]:
        yield from stream(100)
        raise ValueError("the file is torn")

    with Feed(KafkaSettings(), TOPICS, torn, rate=None) as feed:
        feed.go()
        eventually(lambda: feed.done)
        with pytest.raises(MuseError, match="the file is torn"):
            feed.check()
    assert producers.count == 100
