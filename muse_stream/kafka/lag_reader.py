"""A look at partitions that do not move: where they end, and how old the first record is that waits there.

A thread and a consumer of its own, off the worker's thread, and only while something stands still; answers come some
seconds later. The consumer is never a member of the group and commits nothing. What cannot be read (no permission, the
topic is gone, an open transaction) has no answer, which is no error; it is asked again every few seconds.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping
from itertools import islice

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.partition import Places, Standing, TopicPartitionKey
from muse_stream.telemetry import Log

AGAIN_S = 5.0
LOOK_S = 3.0
"""How long to wait for all partitions of one look together."""
AT_ONCE = 100
"""Partitions of one look: each costs a fetch."""
READER = {"enable.partition.eof": True, "queued.min.messages": 1, "queued.max.messages.kbytes": 1_024}
"""Settings of the consumer that looks."""


class LagReader:
    """Implements `backlog.Looker`; the thread starts with the first question."""

    def __init__(self, open_reader: Callable[[], Consumer], log: Log) -> None:
        self._open_reader, self._log = open_reader, log
        self._changed = threading.Condition()
        self._asked: Places = {}
        self._found: Mapping[TopicPartitionKey, Standing] = {}
        self._closing = False
        self._thread: threading.Thread | None = None

    def ask(self, places: Places) -> None:
        """Look at these from now on, at once where they are new, and at no others."""
        if not places and not self._asked:
            return
        with self._changed:
            self._asked = dict(places)
            self._changed.notify_all()
            if self._thread is None and places:
                self._thread = threading.Thread(target=self._run, name="standing-partitions", daemon=True)
                self._thread.start()

    def found(self) -> Mapping[TopicPartitionKey, Standing]:
        """Return what was seen last of the partitions that are asked for."""
        return self._found

    def close(self) -> None:
        """End the thread; a look under way is given a second to end."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        reader: Consumer | None = None
        looked: Places = {}
        while (asked := self._next(looked)) is not None:
            looked = asked
            if not asked:
                self._found, reader = {}, _close(reader)
                continue
            try:
                reader = reader or self._open_reader()
                self._found = look(reader, dict(islice(asked.items(), AT_ONCE)), LOOK_S, lambda: self._closing)
            except KafkaException as error:
                self._log.debug("standing_partitions_unknown", error=str(error))
        _close(reader)

    def _next(self, looked: Places) -> Places | None:
        """Wait for another question, or for the time to ask the same again; None: it is over."""
        with self._changed:
            # the caller asks every second: only a partition or an offset that is new is another question
            self._changed.wait_for(lambda: self._closing or self._asked.items() - looked.items(), AGAIN_S)
            return None if self._closing else self._asked


def _close(reader: Consumer | None) -> Consumer | None:
    """Close it if there is one; there is none any more."""
    if reader is not None:
        reader.close()
    return None


def look(
    reader: Consumer, places: Places, patience_s: float, given_up: Callable[[], bool] = lambda: False
) -> dict[TopicPartitionKey, Standing]:
    """Return what can be seen of these partitions within `patience_s`; None as an offset means the beginning."""
    reader.assign([TopicPartition(t, p, OFFSET_BEGINNING if o is None else o) for (t, p), o in places.items()])
    found: dict[TopicPartitionKey, Standing] = {}
    left, deadline = set(places), Deadline(patience_s)
    while left and not deadline.over and not given_up():
        message = reader.poll(0.1)
        place = None if message is None else (message.topic() or "", message.partition() or 0)
        if message is None or place is None or place not in left:
            continue
        left.discard(place)
        _low, high = reader.get_watermark_offsets(TopicPartition(*place), cached=True)
        with contextlib.suppress(KafkaException):  # it has answered, and must not fill the queue
            reader.incremental_unassign([TopicPartition(*place)])
        seen = _seen(message, places[place], high)
        if seen is not None:
            found[place] = seen
    reader.unassign()
    return found


def _seen(message: Message, asked: int | None, high: int) -> Standing | None:
    error, offset = message.error(), message.offset()
    if offset is None or (error is not None and error.code() != KafkaError._PARTITION_EOF):
        return None
    answered = offset if asked is None else asked
    if error is not None:  # nothing is there up to the end; or up to an open transaction, where it ends before
        return Standing(answered, max(high, offset), None, empty=offset >= high)
    _kind, stamp_ms = message.timestamp()
    return Standing(answered, max(high, offset + 1), stamp_ms if stamp_ms > 0 else None)
