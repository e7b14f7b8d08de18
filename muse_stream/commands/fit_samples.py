"""What a map is fitted on: a predictor's values before its map, by tenant, from a file or from topics.

    file of events    scored by `runtime.trial`, as a worker scores them
    file of scores    a column of it
    scores, audit     the records of a topic that this content of the predictor gave, within a window of time

A sample is in order of time where times are known. What is no score, no label, no time is a `FitError` that names it.
"""

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from muse_stream.avro import Decoder, Fields, SchemaDirectory
from muse_stream.calibration import Floats
from muse_stream.config import Document, KafkaSettings, Loaded
from muse_stream.errors import MuseError
from muse_stream.files import EventFile, Timestamp, parsed_timestamp, read_columns
from muse_stream.kafka import Beginnings, Block, Reading, between, bounds, reader
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA, output_schemas
from muse_stream.runtime.trial import PredictorTrial, Tried
from muse_stream.scoring import Categorical

Topic = Literal["scores", "audit"]
Times = NDArray[np.int64]
Codes = NDArray[np.int64]
Told = Callable[[int], object]

CHUNK = 10_000
SETTLE_S = 20.0
"""Seconds to wait for transactions that are open; those of workers end within five."""
SHOWN = 3
DAY_MS = 86_400_000
MISSED = 50
"""A silence is a gap if so many events would have come in it, at the rate of the whole window."""


class FitError(MuseError):
    """Nothing can be fitted to this."""

    exit_code = 2


class Sample(Struct, frozen=True, eq=False):
    """A predictor's values for one tenant's events."""

    scores: Floats
    times: Times | None = None
    """Milliseconds since 1970, rising; None where they are not known."""
    entities: Codes = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Of each event, as a code; empty where they are not known."""
    labels: Floats | None = None
    raw: Mapping[str, Floats] = field(default_factory=dict)
    """Model -> its own answers, where the events were scored here."""
    left_out: int = 0
    """Events that would be dead letters, or records of another content of the predictor."""

    def __len__(self) -> int:
        return len(self.scores)

    def gap(self) -> tuple[int, int] | None:
        """Return from when to when events are missing; None where no silence is long."""
        if self.times is None or len(self.times) < 2:
            return None
        silence = np.diff(self.times)
        place = int(np.argmax(silence))
        longest, window = int(silence[place]), int(self.times[-1] - self.times[0])
        if longest < min(DAY_MS, window / 4) or len(self) * longest < MISSED * window:
            return None
        return int(self.times[place]), int(self.times[place + 1])

    def sorted(self) -> "Sample":
        """Return the same events in order of time."""
        if self.times is None or np.all(np.diff(self.times) >= 0):
            return self
        order = np.argsort(self.times, kind="stable")
        return Sample(
            self.scores[order],
            self.times[order],
            self.entities[order] if len(self.entities) else self.entities,
            None if self.labels is None else self.labels[order],
            {name: one[order] for name, one in self.raw.items()},
            self.left_out,
        )


class FileColumns(Struct, frozen=True):
    """Which columns of a file are what."""

    scores: str | None = None
    """Values before the quantile map: the file has scores. None: it has events."""
    tenant: str | None = None
    """Whose each row is; None: all are of the one tenant that is asked for."""
    time: str | None = None
    """Of a file of scores; events have their own."""
    entity: str | None = None
    """Customer, card, terminal: whose events come in herds."""
    label: str | None = None
    """0 and 1."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Field of the event schema -> column, where the names differ."""

    def named(self) -> list[str]:
        """Return the columns to be read beside the events."""
        given = (self.scores, self.tenant, self.time, self.entity, self.label)
        return list(dict.fromkeys(name for name in given if name is not None))


def from_file(
    loaded: Loaded, predictor: str, path: Path, tenants: Sequence[str], columns: FileColumns, told: Told
) -> dict[str, Sample]:
    """Return tenant -> its sample, for those that the file has events of. Raises FitError, MuseError, ConfigError."""
    if columns.tenant is None and len(tenants) != 1:
        raise FitError(f"{path}: whose events are these? Name one --tenant, or the --tenant-column")
    numbers, held = read_columns(path, columns.named()) if columns.named() else ([], {})
    owners = _owners(path, numbers, held, columns, tenants)
    if columns.scores is not None:
        return _scores(path, numbers, held, columns, owners)
    trial = PredictorTrial(loaded, predictor)
    formats: dict[str, list[str]] = {}
    for tenant in tenants:
        formats.setdefault(loaded.document.tenants[tenant].event, []).append(tenant)
    table = _Table(np.array(numbers, dtype=np.int64), held, owners)
    found: dict[str, Sample] = {}
    for some in formats.values():
        found |= _Scoring(trial, loaded, path, some, columns, table).samples(told)
    return found


class _Table(Struct, frozen=True, eq=False):
    """FileColumns beside the events of a file."""

    numbers: Codes
    """[N] row numbers in the file, rising."""
    held: Mapping[str, list[Any]]
    owners: NDArray[np.object_] | None


def _owners(
    path: Path, numbers: Sequence[int], held: Mapping[str, list[Any]], columns: FileColumns, tenants: Sequence[str]
) -> NDArray[np.object_] | None:
    if columns.tenant is None:
        return None
    names = [None if one is None else str(one) for one in held[columns.tenant]]
    for number, name in zip(numbers, names, strict=True):
        if name is None:
            raise FitError(f"{path}, row {number}: no tenant in column {columns.tenant!r}")
    there = set(names)
    if not there & set(tenants):
        raise FitError(
            f"{path}: column {columns.tenant!r} names no tenant of the configuration that is asked for; it has "
            f"{_some(sorted(map(str, there)))}, asked for is {_some(tenants)}"
        )
    return np.array(names, dtype=object)


def _scores(
    path: Path,
    numbers: Sequence[int],
    held: Mapping[str, list[Any]],
    columns: FileColumns,
    owners: NDArray[np.object_] | None,
) -> dict[str, Sample]:
    assert columns.scores is not None  # noqa: S101  # the caller has looked
    scores = np.array([_number(one) for one in held[columns.scores]], dtype=np.float64)
    wrong = np.flatnonzero(~((scores >= 0.0) & (scores <= 1.0)))
    if len(wrong):
        some = _some([f"row {numbers[row]}: {held[columns.scores][row]}" for row in wrong[:SHOWN].tolist()])
        raise FitError(
            f"{path}: column {columns.scores!r} has {len(wrong):,} values that are no score, a number in [0, 1]: {some}"
        )
    times = None if columns.time is None else _times(path, numbers, held[columns.time], columns.time)
    entities = _codes(held[columns.entity]) if columns.entity is not None else np.empty(0, dtype=np.int64)
    labels = None if columns.label is None else np.array([_number(one) for one in held[columns.label]])
    whole = Sample(scores, times, entities, labels)
    names = [""] if owners is None else list(dict.fromkeys(owners.tolist()))
    found: dict[str, Sample] = {}
    for name in names:
        rows = np.arange(len(scores)) if owners is None else np.flatnonzero(owners == name)
        found[name] = Sample(
            whole.scores[rows],
            None if times is None else times[rows],
            entities[rows] if len(entities) else entities,
            None if labels is None else labels[rows],
        )
    return found


class _Scoring:
    """Scores the events of a file that are of tenants with one event format."""

    def __init__(
        self,
        trial: PredictorTrial,
        loaded: Loaded,
        path: Path,
        tenants: Sequence[str],
        columns: FileColumns,
        table: _Table,
    ) -> None:
        document = loaded.document
        schemas = SchemaDirectory.open(loaded.root / document.schemas)
        self._timed = document.events[document.tenants[tenants[0]].event].time is not None
        schema = schemas.by_file(document.events[document.tenants[tenants[0]].event].schema_file)
        self._file = EventFile(path, schema, columns=columns.fields, csv=True)
        self._trial, self._tenants, self._columns, self._table = trial, tenants, columns, table
        self._tried: dict[str, list[Tried]] = {tenant: [] for tenant in tenants}
        self._at: dict[str, list[Codes]] = {tenant: [] for tenant in tenants}

    def samples(self, told: Told) -> dict[str, Sample]:
        done = 0
        for events in self._file.events(CHUNK):
            numbers = np.asarray(events.rows, dtype=np.int64)
            place = np.searchsorted(self._table.numbers, numbers)
            for tenant in self._tenants:
                mine = np.arange(len(numbers))
                if self._table.owners is not None:
                    mine = np.flatnonzero(self._table.owners[place] == tenant)
                if len(mine):
                    tried = self._trial.score(tenant, [events.values[row] for row in mine.tolist()])
                    self._tried[tenant].append(tried)
                    self._at[tenant].append(place[mine[tried.rows]])
            done += len(numbers)
            told(done)
        return {tenant: self._sample(tenant) for tenant in self._tenants if self._tried[tenant]}

    def _sample(self, tenant: str) -> Sample:
        tried, at = self._tried[tenant], np.concatenate(self._at[tenant])
        dead = [one for part in tried for one in part.rejected]
        if not len(at):
            first = f"{dead[0].reason}: {dead[0].message}"
            raise FitError(
                f"{self._file.path}: none of {len(dead):,} events of {tenant} has a score; the first: {first}"
            )

        def column(name: str | None) -> list[Any]:
            return [] if name is None else [self._table.held[name][row] for row in at.tolist()]

        models = list(dict.fromkeys(name for part in tried for name in part.raw))
        labels = np.array([_number(one) for one in column(self._columns.label)], dtype=np.float64)
        return Sample(
            np.concatenate([part.aggregate for part in tried]),
            np.concatenate([part.times for part in tried]) if self._timed else None,
            _codes(column(self._columns.entity)),
            None if self._columns.label is None else labels,
            {name: np.concatenate([part.raw[name] for part in tried if name in part.raw]) for name in models},
            len(dead),
        ).sorted()


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def _codes(values: Sequence[Any]) -> Codes:
    """Return entities as codes; an event without one is an entity of its own."""
    codes: dict[Any, int] = {}
    return np.array(
        [-1 - row if one is None else codes.setdefault(one, len(codes)) for row, one in enumerate(values)],
        dtype=np.int64,
    )


def _times(path: Path, numbers: Sequence[int], values: Sequence[Any], name: str) -> Times:
    """Return milliseconds since 1970; times without a zone are UTC, if all are. FitError for what cannot be ordered."""
    found: list[int] = []
    zones: dict[bool | None, int] = {}
    for number, value in zip(numbers, values, strict=True):
        stamp = parsed_timestamp(value) if isinstance(value, str) else value
        if isinstance(stamp, Timestamp):
            zones.setdefault(stamp.zoned, number)
            found.append(stamp.nanos // 1_000_000)
        elif isinstance(stamp, int) and not isinstance(stamp, bool):
            zones.setdefault(None, number)
            found.append(stamp)
        else:
            raise FitError(
                f"{path}, row {number}: {value!r} in column {name!r} is no time: a timestamp, or milliseconds"
            )
    if len(zones) > 1:
        said = {True: "a time with a zone", False: "a time without one", None: "a number"}
        where = " and ".join(f"row {number} has {said[zoned]}" for zoned, number in zones.items())
        raise FitError(f"{path}: the times in column {name!r} cannot be put in order: {where}")
    times = np.array(found, dtype=np.int64)
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        row = int(back[0])
        raise FitError(
            f"{path}: not in order of {name!r}: row {numbers[row + 1]} is earlier than row {numbers[row]}; sort it"
        )
    return times


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


# topics


class _Kept(Struct):
    """What is kept of one tenant's records, block by block."""

    scores: list[Floats] = field(default_factory=list)
    times: list[Times] = field(default_factory=list)
    generation: list[Codes] = field(default_factory=list)
    place: list[NDArray[np.object_]] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)


FIELDS: Mapping[Topic, tuple[str, ...]] = {
    "scores": ("predictor", "aggregate", "generation"),
    "audit": ("predictor", "aggregate", "live_predictor", "live_aggregate", "generation", "live_generation"),
}
PLACE = ("source_topic", "source_partition", "source_offset")


def from_topics(
    document: Document,
    settings: KafkaSettings,
    predictor: str,
    kind: Topic,
    tenants: Sequence[str],
    window: tuple[int | None, int | None],
    alike: Callable[[set[int]], set[int]],
    told: Told,
    *,
    gaps: bool = False,
) -> dict[str, Sample]:
    """Return tenant -> its sample: what the predictor gave, live or as a shadow, while its content was the same.

    `window`: milliseconds since 1970 from which, and to which, records were written; `alike` says which of some
    generations have the same content of the predictor; `gaps`: go on where retention has removed the window's
    beginning, or a transaction is still open. Raises FitError, and the errors of Kafka.
    """
    topics: dict[str, list[str]] = {}
    for tenant in tenants:
        topics.setdefault(getattr(document.tenant_topics(tenant), kind), []).append(tenant)
    client = reader(settings)
    unstable = reader(settings, **{"isolation.level": "read_uncommitted"})  # tells ends behind open transactions
    kept = {tenant: _Kept() for tenant in tenants}
    gathering = _Gathering(predictor, kind, kept)
    done = 0
    try:
        for topic, own in topics.items():
            held = bounds(unstable, topic)
            span = between(unstable, topic, held, *window) if held else {}
            reading = Reading(client, topic, span, SETTLE_S)
            begins = Beginnings(topic, held, span, window[0], window[1] or round(time.time() * 1000))
            for block in reading if held else ():
                begins.see(block)
                gathering.add(block, own)
                done += len(block.messages)
                told(done)
            if not gaps:
                _refuse_gaps(topic, reading.unstable, begins.gone() if window[0] is not None else [])
    finally:
        client.close()
        unstable.close()
    made = {number for one in kept.values() for part in one.generation for number in np.unique(part).tolist()}
    same = alike(made) if made else set()
    return {tenant: _joined(one, same).sorted() for tenant, one in kept.items() if one.scores}


def _refuse_gaps(topic: str, unstable: Mapping[int, int], gone: Sequence[str]) -> None:
    """Refuse a window of which a part is missing."""
    hint = "choose a window without it (--since, --until), or say --gaps if it is meant"
    if gone:
        raise FitError(f"the window has a gap: {_some(gone)}; {hint}")
    if unstable:
        partition, offset = next(iter(unstable.items()))
        said = f"records from offset {offset} of {topic}[{partition}] on stand behind an open transaction"
        raise FitError(f"the window has a gap: {said}, which `muse-stream doctor` looks into; {hint}")


class _Gathering:
    """Takes blocks of a topic and keeps what the predictor gave."""

    def __init__(self, predictor: str, kind: Topic, kept: Mapping[str, _Kept]) -> None:
        self._predictor, self._kind, self._kept = predictor, kind, kept
        schemas = output_schemas()
        schema = schemas.by_file(OUTPUT_SCHEMA["live" if kind == "scores" else "shadow"])
        columns = ("tenant", *FIELDS[kind], *PLACE)
        self._decoder = Decoder(schemas, schema, Fields("event_id", "event_time", columns=columns))

    def add(self, block: Block, tenants: Collection[str]) -> None:
        """Keep what a block has of these tenants."""
        decoded = self._decoder.decode(block.values())

        def texts(name: str) -> NDArray[np.object_]:
            column = decoded.columns[name]
            assert isinstance(column, Categorical)  # noqa: S101  # a string in the schema
            return np.array([*column.values, None], dtype=object)[column.codes]

        def numbers(name: str) -> Floats:
            return np.asarray(decoded.columns[name], dtype=np.float64)

        tenant, generation = texts("tenant"), numbers("generation")
        chosen, value = texts("predictor") == self._predictor, numbers("aggregate")
        if self._kind == "audit":
            lived = ~chosen & (texts("live_predictor") == self._predictor)
            value = np.where(lived, numbers("live_aggregate"), value)
            of_live = numbers("live_generation")
            generation = np.where(lived & ~np.isnan(of_live), of_live, generation)
            chosen = chosen | lived
        assert decoded.times is not None  # noqa: S101  # the decoder was asked for them
        topic, partition, offset = texts(PLACE[0]), numbers(PLACE[1]), numbers(PLACE[2])
        for name in tenants:
            rows = np.flatnonzero((tenant == name) & chosen & ~np.isnan(value))
            if not len(rows):
                continue
            one = self._kept[name]
            one.scores.append(value[rows])
            one.times.append(decoded.times[rows])
            one.generation.append(generation[rows].astype(np.int64))
            one.place.append(
                np.array([*zip(topic[rows], partition[rows], offset[rows], strict=True), None], dtype=object)[:-1]
            )
            one.keys += [block.messages[row].key() for row in decoded.rows[rows].tolist()]


def _joined(kept: _Kept, same: Collection[int]) -> Sample:
    generation = np.concatenate(kept.generation)
    counts = np.isin(generation, list(same))
    # an event has an audit record for each shadow predictor: the live value stands in all of them
    seen: set[object] = set()
    for row, place in enumerate(np.concatenate(kept.place).tolist()):
        if place in seen:
            counts[row] = False
        elif counts[row]:
            seen.add(place)
    rows = np.flatnonzero(counts)
    keys = _codes([kept.keys[row] for row in rows.tolist()])
    other = int((~np.isin(generation, list(same))).sum())
    return Sample(np.concatenate(kept.scores)[rows], np.concatenate(kept.times)[rows], keys, None, {}, other)
