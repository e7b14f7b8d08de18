"""Where partitions begin and end now, and how old the first record is that waits there: looked up beside the worker.

A thread and two consumers of its own, off the worker's thread: what the worker's own consumer last heard of an end
stays as it was when the broker is silent, when the partition is paused, and when nothing is assigned. Every two seconds
three requests to each broker, whatever the number of partitions, tell where they begin, where decided records end and
where all records end. Of a partition that stands still the first record is read. The consumers are never members of the
group and commit nothing. What cannot be read has no new answer, and the time of its last one says so.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from itertools import islice

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from muse_stream.errors import Retriable
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.offsets import forget_leaders, offsets_at
from muse_stream.kafka.partition import Places, Standing, TopicPartitionKey
from muse_stream.telemetry import Log

EVERY_S = 2.0
ANSWER_S = 2.0
"""How long one request may take."""
READ_S = 3.0
"""How long to wait for the first records of one look together."""
AT_ONCE = 100
"""Partitions whose first record is read in one look: each costs a fetch."""
RENEW_S = 30.0
"""How soon clients are opened anew, once more, that cannot read a partition which has records."""
READER = {"enable.partition.eof": True, "queued.min.messages": 1, "queued.max.messages.kbytes": 1_024}
"""Settings of the consumers that look."""
ISOLATION = "isolation.level"

OpenReader = Callable[[dict[str, str]], Consumer]
"""Open a consumer with READER's settings and these."""
Seen = Mapping[TopicPartitionKey, Standing]


class LagReader:
    """Implements `backlog.Looker`; the thread starts with the first question."""

    def __init__(self, open_reader: OpenReader, log: Log) -> None:
        self._open_reader, self._log = open_reader, log
        self._changed = threading.Condition()
        self._asked: Places = {}
        self._standing: frozenset[TopicPartitionKey] = frozenset()
        self._found: Seen = {}
        self._heard_s: float | None = None
        self._closing = False
        self._thread: threading.Thread | None = None

    def ask(self, places: Places, standing: Collection[TopicPartitionKey] = ()) -> None:
        """Look at these partitions from now on, at once where they are new, and at no others.

        `places` says from where on, None is the beginning; of those in `standing` the first record is read.
        """
        with self._changed:
            self._asked, self._standing = dict(places), frozenset(standing)
            self._changed.notify_all()
            if self._thread is None and places:
                self._thread = threading.Thread(target=self._run, name="lag-reader", daemon=True)
                self._thread.start()

    def found(self) -> Seen:
        """Return what was seen last of each partition that is asked for; `at_s` says when."""
        return self._found

    @property
    def heard_s(self) -> float | None:
        """When Kafka answered last (monotonic seconds); None: never."""
        return self._heard_s

    def close(self) -> None:
        """End the thread; a look under way is given a second to end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        readers: Readers | None = None
        looked: frozenset[object] = frozenset()
        silent, renewed_s = frozenset[TopicPartitionKey](), 0.0
        while (question := self._next(looked)) is not None:
            places, standing = question
            looked = _parts(places, standing)
            began_s = time.monotonic()
            try:
                readers = readers or Readers(self._open_reader)
                seen = readers.look(places, standing, self._found, lambda: self._closing)
                self._heard_s = began_s
            except (KafkaException, Retriable) as error:
                seen = {}
                self._log.debug("partition_ends_unknown", error=str(error))
            self._found = {place: one for place, one in self._found.items() if place in places} | seen
            before, silent = silent, frozenset(place for place in standing & seen.keys() if seen[place].unreadable)
            if readers is not None and before & silent and began_s - renewed_s > RENEW_S:
                # a client may look for the leaders of a topic that was made anew where the old ones were (R25)
                readers.close()
                readers, renewed_s = None, began_s
        if readers is not None:
            readers.close()

    def _next(self, looked: frozenset[object]) -> tuple[Places, frozenset[TopicPartitionKey]] | None:
        """Wait for a partition that is new, or for the time to look again; None: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or _parts(self._asked, self._standing) - looked, EVERY_S)
            return None if self._closing else (self._asked, self._standing)


def _parts(places: Places, standing: frozenset[TopicPartitionKey]) -> frozenset[object]:
    """What makes a question another one: a partition, or one whose first record is wanted; not how far it has come."""
    return frozenset(places) | {(place, places.get(place)) for place in standing}


class Readers:
    """The two consumers: one sees committed records, the other all. For one thread."""

    def __init__(self, open_reader: OpenReader) -> None:
        self._committed = open_reader({ISOLATION: "read_committed"})
        self._all = open_reader({ISOLATION: "read_uncommitted"})

    def look(
        self,
        places: Places,
        standing: Collection[TopicPartitionKey] = (),
        before: Seen | None = None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> dict[TopicPartitionKey, Standing]:
        """Return what can be seen of these partitions now; `before` is what was seen before.

        A partition without a leader is left out. Raises `Retriable` when a broker does not answer.
        """
        now_s = time.monotonic()
        # the end of all records first: where the stable end is not below it, everything that stood there is decided
        high = offsets_at(self._all, sorted(places), OFFSET_END, ANSWER_S)
        if missing := places.keys() - high.keys():
            forget_leaders(self._all, {topic for topic, _ in missing}, ANSWER_S)
        stable = offsets_at(self._committed, sorted(high), OFFSET_END, ANSWER_S)
        low = offsets_at(self._all, sorted(stable), OFFSET_BEGINNING, ANSWER_S)
        found = {}
        for place, first in low.items():
            start, end = places[place], high[place]
            found[place] = Standing(first if start is None else start, first, min(stable[place], end), end, at_s=now_s)
        known, unread = _remembered({p: found[p] for p in standing if p in found}, before or {})
        return found | dict(known) | self._first_records(dict(islice(unread.items(), AT_ONCE)), given_up)

    def close(self) -> None:
        """Let both go."""
        self._committed.close()
        self._all.close()

    def _first_records(self, seen: Seen, given_up: Callable[[], bool]) -> dict[TopicPartitionKey, Standing]:
        """Add the timestamp of the first record that waits, be it decided or not."""
        ahead = {place: max(one.answered, one.low) for place, one in seen.items()}
        firsts = read_first(self._committed, ahead, READ_S, given_up)
        done = {place: replace(seen[place], since_ms=_stamp(one), nothing=one is None) for place, one in firsts.items()}
        open_ones = {p: max(one.stable, ahead[p]) for p, one in done.items() if one.nothing and one.stable < one.high}
        for place, message in read_first(self._all, open_ones, READ_S, given_up).items():
            done[place] = replace(done[place], since_ms=_stamp(message))
        return done


def _remembered(seen: Seen, before: Seen) -> tuple[Seen, Seen]:
    """Return those whose first record is known from before, and those that have to be read."""
    known: dict[TopicPartitionKey, Standing] = {}
    unread: dict[TopicPartitionKey, Standing] = {}
    for place, one in seen.items():
        last = before.get(place)
        told = last is not None and (last.since_ms is not None or last.nothing)
        if last is not None and told and (last.answered, last.low, last.stable) == (one.answered, one.low, one.stable):
            # what comes behind an open transaction changes nothing of what waits first
            same = last.since_ms is not None or last.high == one.high
            (known if same else unread)[place] = replace(one, since_ms=last.since_ms, nothing=last.nothing)
        else:
            unread[place] = one
    return known, unread


def read_first(
    reader: Consumer,
    places: Mapping[TopicPartitionKey, int],
    patience_s: float,
    given_up: Callable[[], bool] = lambda: False,
) -> dict[TopicPartitionKey, Message | None]:
    """Return the first record that this consumer sees from each offset on; None: it has reached the end.

    Partitions that tell nothing within `patience_s` are left out.
    """
    if not places:
        return {}
    reader.assign([TopicPartition(*place, offset) for place, offset in places.items()])
    found: dict[TopicPartitionKey, Message | None] = {}
    left, deadline = set(places), Deadline(patience_s)
    while left and not deadline.over and not given_up():
        message = reader.poll(0.1)
        place = None if message is None else (message.topic() or "", message.partition() or 0)
        if message is None or place is None or place not in left:
            continue
        left.discard(place)
        with contextlib.suppress(KafkaException):  # it has answered, and must not fill the queue
            reader.incremental_unassign([TopicPartition(*place)])
        error = message.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            found[place] = message if error is None else None
    reader.unassign()
    return found


def _stamp(message: Message | None) -> int | None:
    stamp_ms = message.timestamp()[1] if message is not None else 0
    return stamp_ms if stamp_ms > 0 else None
