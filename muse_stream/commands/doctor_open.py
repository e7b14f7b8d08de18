"""Transactions that stay open, with the commands that end them; and quotas that hold this client back.

A partition whose last stable offset does not move has an open transaction: readers of committed records stand still
there. Honest ones end within seconds; one that stands longer than `stands_s` is a fault. Of a group's offsets only
Kafka says that they are hidden, and the partition of `__consumer_offsets` tells where its transaction begins.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime

from muse_stream.commands.doctor_fault import Fault, Patient
from muse_stream.errors import StreamError
from muse_stream.kafka import End, Ends, TopicPartitionKey, kept_in, read_some, reader

OFFSETS_TOPIC = "__consumer_offsets"
STANDS_S = 16.0
"""Longer than an honest transaction of a worker can last: its timeout of 5 s, and the broker looks every 10 s."""
LOOK_EVERY_S = 0.5
LEADER_S = 5.0
READ_S = 3.0


def transactions(
    patient: Patient, stands_s: float, notes: list[str], waiting: Callable[[str], object]
) -> Iterator[Fault]:
    """Yield partitions that stand still behind an open transaction."""
    homes = _homes(patient)
    places = [
        (topic, number)
        for topic, parts in patient.state.topics.items()
        for number, one in parts.items()
        if one.leader >= 0 and (topic != OFFSETS_TOPIC or number in homes) and topic != "__transaction_state"
    ]
    ends = Ends(patient.settings, "muse-stream-doctor")  # the name is never used: it joins nothing
    try:
        standing = _standing(ends, places, stands_s, notes, waiting)
        for place, end in sorted(standing.items()):
            yield _open(patient, place, end, _since(ends, place, end), homes.get(place[1], []))
    except StreamError as error:
        notes.append(f"open transactions were not looked at: {error}")
    if OFFSETS_TOPIC not in patient.state.topics and patient.state.topics:
        notes.append(f"{OFFSETS_TOPIC} was not looked at: it is not there yet, or may not be seen")


def _standing(
    ends: Ends,
    places: list[TopicPartitionKey],
    stands_s: float,
    notes: list[str],
    waiting: Callable[[str], object],
) -> dict[TopicPartitionKey, End]:
    """Return the partitions whose last stable offset has not moved for so long."""
    seen = ends.look(places, LEADER_S)  # a client that has just started may not know yet who leads a new topic
    began = time.monotonic()
    if left := sorted(set(places) - seen.keys()):
        notes.append(f"open transactions were not looked for in {', '.join(f'{t}[{p}]' for t, p in left)}: no answer")
    open_ones = {place: end for place, end in seen.items() if end.undecided}
    if open_ones and stands_s > 0:
        topic, partition = min(open_ones)
        waiting(f"a transaction is open at {topic}[{partition}]: looking for {stands_s:g} s whether it stays so")
    while open_ones and time.monotonic() - began < stands_s:
        time.sleep(LOOK_EVERY_S)
        now = ends.look(open_ones)
        open_ones = {
            place: now[place]
            for place, end in open_ones.items()
            if place in now and now[place].undecided and now[place].stable == end.stable
        }
    return open_ones


def _since(ends: Ends, place: TopicPartitionKey, end: End) -> str:
    """Say when the first record of the transaction was written, where it may be read."""
    try:
        records = ends.undecided({place: End(end.stable, end.stable + 1)}).get(place)
    except StreamError:
        return ""
    if not records:
        return ""
    stamp = records[0].timestamp()[1] / 1000
    return f", since {datetime.fromtimestamp(stamp, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _open(patient: Patient, place: TopicPartitionKey, end: End, since: str, groups: list[str]) -> Fault:
    topic, partition = place
    tool = patient.tool("kafka-transactions")
    at = f"--topic {topic} --partition {partition}"
    abort = f"{tool} abort {at} --start-offset {end.stable}"
    # without the option it prints nothing for 15 minutes, the longest that the broker allows a transaction
    listing = f"{tool} find-hanging {at} --max-transaction-timeout 1"
    what = f"a transaction is open from offset {end.stable:,} on{since}; the partition ends at {end.high:,}"
    if topic == OFFSETS_TOPIC:
        why = f"it may hide offsets of the groups {', '.join(groups)}: a worker that needs them cannot start"
        return Fault("offsets_hidden", f"{topic}[{partition}]", what, why, (_WORKER, listing, abort))
    kinds = {one.name: one.kind for one in patient.needs}
    if kinds.get(topic) == "events":
        why = "events behind it cannot be read, so they are not scored; an upstream producer has to end it"
        return Fault("transaction_open", f"{topic}[{partition}]", what, why, (_PRODUCER, listing, abort))
    why = "readers of committed records stand still there: answers behind it are not seen"
    return Fault("transaction_open", f"{topic}[{partition}]", what, why, (_WORKER, listing, abort))


_WORKER = "start the worker whose transaction it is, under the same --name: it ends it and keeps what was committed"
_PRODUCER = "start the producer whose transaction it is, under the same transactional id: that ends it"


def _homes(patient: Patient) -> Mapping[int, list[str]]:
    """Return the partitions of `__consumer_offsets` in which our groups' offsets stand."""
    count = len(patient.state.topics.get(OFFSETS_TOPIC, {}))
    found: dict[int, list[str]] = {}
    for group, _lane, _role in patient.groups() if count else ():
        found.setdefault(kept_in(group, count), []).append(group)
    return found


def throttling(patient: Patient, notes: list[str]) -> Iterator[Fault]:
    """Yield brokers that make this client wait because its quota is used up, by us or by who shares it."""
    waits: dict[str, float] = {}

    def note(event: object) -> None:
        name, seconds = str(getattr(event, "broker_name", "?")), float(getattr(event, "throttle_time", 0.0))
        waits[name] = max(seconds, waits.get(name, 0.0))

    places = [
        (one.name, number)
        for one in patient.needs
        if one.kind in ("events", "scores") and patient.has(one.name)
        for number, part in patient.state.topics[one.name].items()
        if part.leader >= 0
    ]
    with closing(reader(patient.settings, **{"throttle_cb": note})) as client:
        read_some(client, places, READ_S)
    tool = patient.tool("kafka-configs")
    shown = f"{tool} --describe --entity-type users --entity-type clients"
    for name, seconds in sorted(waits.items()):
        if seconds > 0:
            yield Fault(
                "throttled",
                f"broker {name}",
                f"it made this client wait {seconds:.1f} s: a quota of this user or client id is used up",
                "a worker under the same quota scores only as fast as that allows",
                (shown, "raise consumer_byte_rate, producer_byte_rate or request_percentage of the workers' user"),
            )
    notes.append(f"quotas: only those that hold this client back now are seen; all of them: {shown}")
