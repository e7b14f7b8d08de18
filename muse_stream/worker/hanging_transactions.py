"""Which records of a transaction that hangs must be kept, and which dropped. Pure: no clock, no socket.

The records behind a partition's last stable offset, and what the group has committed, tell whose transaction hangs
there, and which records have to appear all the same.

A transaction hangs when its coordinator has ended it and a partition never got the marker (Kafka 4.3 forgets markers of
partitions without a leader). The record at the last stable offset is the first of the transaction that holds the
partition up, so all records behind it by the same producer belong to it, or to later ones that met the same fate. What
is right follows from the source's committed offset, which was part of the transaction:

    at or above it    the event will be scored again: this answer must not appear
    below it          the event is done: its answer must appear once, unless another transaction has answered it since
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from msgspec import Struct

from muse_stream.kafka import Message, TopicPartitionKey
from muse_stream.worker import attempts
from muse_stream.worker.batch import Origin
from muse_stream.worker.dead_letter import source_of

COPIED_BY = "muse.copied-by"
"""Header of an answer that had to be written again: which producer (0, 1, 2) wrote the copy."""

Origins = Callable[[Sequence[bytes | None]], Sequence[Origin | None]]
"""Reads which event each answer answers, and under which attempt; None for what is no answer of ours."""


class Answered(Struct, frozen=True):
    """A record of an output topic and what it answers; `origin` is None for a stranger's."""

    place: TopicPartitionKey
    message: Message
    origin: Origin | None
    half: int
    """Which of its owner's producers wrote it."""
    letter: bool = False
    """Whether it is a dead letter."""

    def of(self, owner: int) -> bool:
        """Whether this owner's producers wrote it."""
        return self.origin is not None and attempts.owner_of(self.origin.attempt) == owner


def answered(place: TopicPartitionKey, messages: Sequence[Message], origins: Origins) -> list[Answered]:
    """Say of each record of a partition what it answers: a dead letter tells it in headers, an answer in its value."""
    headers = [dict(message.headers() or []) for message in messages]
    letters = [source_of(one) for one in headers]
    values = iter(origins([m.value() for m, letter in zip(messages, letters, strict=True) if letter is None]))
    found = []
    for message, named, letter in zip(messages, headers, letters, strict=True):
        origin = letter if letter is not None else next(values)
        copier = named.get(COPIED_BY)  # anybody may write a header
        known = copier is not None and copier.isdigit() and len(copier) == 1
        half = int(copier or 0) if known else attempts.half_of(origin.attempt) if origin is not None else 0
        found.append(Answered(place, message, origin, half, letter is not None))
    return found


def hung(tail: Sequence[Answered], owner: int) -> list[Answered]:
    """Return the records that hang here because of this owner; empty when another's transaction holds the partition up.

    Good only for an owner without an open transaction: whose producers have been initialised and not used since.
    """
    if not tail or not tail[0].of(owner):
        return []
    return [one for one in tail if one.of(owner) and one.half == tail[0].half]


def kept(
    records: Iterable[Answered],
    committed: Mapping[TopicPartitionKey, int],
    answered_since: Collection[tuple[str, int, int]],
) -> list[Answered]:
    """Return the hanging records that must appear; of an event's several attempts the last one's."""
    latest: dict[tuple[str, int, int], int] = {}
    mine = [(one, one.origin) for one in records if one.origin is not None]
    for _one, origin in mine:
        done = origin.offset < committed.get((origin.topic, origin.partition), 0)
        if done and origin.event not in answered_since:
            latest[origin.event] = max(origin.attempt, latest.get(origin.event, 0))
    return [one for one, origin in mine if latest.get(origin.event) == origin.attempt]
