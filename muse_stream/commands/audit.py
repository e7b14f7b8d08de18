"""Export a tenant's score and audit records to a Parquet file: what was answered, and what shadows would have answered.

The topics are read once, committed records only, up to where they end when the export begins; memory holds one part of
them. docs/audit-records.md has the columns and queries.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import RecordTable, RecordTables
from muse_stream.commands.configuration import Configuration
from muse_stream.config import KafkaSettings
from muse_stream.errors import Fatal, MuseError
from muse_stream.files import RecordFile
from muse_stream.kafka import Beginnings, Block, Bounds, Consumer, Reading, between, bounds, client, reader
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA, output_schemas


class NoRecords(MuseError):
    """There is nothing to write."""


Kind = Literal["scores", "audit"]
KINDS: tuple[Kind, ...] = ("scores", "audit")
NAMES: Mapping[Kind, str] = {"scores": "score", "audit": "audit"}
"""What column `record` calls them."""
SCHEMAS: Mapping[Kind, str] = {"scores": OUTPUT_SCHEMA["live"], "audit": OUTPUT_SCHEMA["shadow"]}
SETTLE_S = 20.0
SKEWED_MS = 300_000
"""By how much clocks may differ: records are looked at until so much behind the end of a window."""
SHOWN = 3

Told = Callable[[int, int], object]
"""Is told how many records are done, and about how many there are: offsets also count markers of transactions."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records are exported: all that are committed, unless something else is said."""

    kinds: tuple[Kind, ...] = KINDS
    since_ms: int | None = None
    """Written from then on, in milliseconds since 1970."""
    until_ms: int | None = None
    """Written before that."""
    from_offset: int | Mapping[int, int] | None = None
    """Of events from this offset on, in all partitions of the event topic or by partition, as `verify` has it."""
    settle_s: float = SETTLE_S
    """Seconds to wait for transactions that are open."""


@dataclass(slots=True)
class Exported:
    """What was written, and what was not."""

    file: str
    scores: int = 0
    audit: int = 0
    predictors: list[str] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    """When the first and the last of the records were written to their topics."""
    columns: list[str] = field(default_factory=list)
    undecodable: int = 0
    """Records that are no score or audit record; somebody else has written them."""
    examples: list[str] = field(default_factory=list)
    """The first of them."""
    notes: list[str] = field(default_factory=list)
    """What is missing, in words."""


def audit(
    configuration: Configuration,
    settings: KafkaSettings,
    tenant: str,
    path: Path,
    selection: Selection | None = None,
    told: Told = lambda _done, _all: None,
) -> Exported:
    """Write a tenant's records to `path`, a Parquet file that appears whole or not at all.

    Raises ConfigError for a tenant that is not there, NoRecords where nothing was found, MuseError where the file
    cannot be written, and the errors of Kafka.
    """
    selection = selection or Selection()
    topics = configuration.loaded.document.tenant_topics(configuration.tenant(tenant))
    if selection.since_ms is not None and selection.until_ms is not None and selection.since_ms >= selection.until_ms:
        raise MuseError("the window is empty: it ends before it begins, or at the same moment (--since, --until)")
    done = Exported(str(path))
    with RecordFile(path) as file:
        client.reach(settings)
        consumer = reader(settings)
        unstable = reader(settings, **{"isolation.level": "read_uncommitted"})  # tells ends behind open transactions
        try:
            held = {kind: _held(unstable, getattr(topics, kind)) for kind in selection.kinds}
            spans = {kind: _span(unstable, getattr(topics, kind), held[kind], selection) for kind in selection.kinds}
            total = sum(bound.high - bound.low for span in spans.values() for bound in span.values())
            exporting = _Export(tenant, topics.events, selection, file, done)
            read = 0
            for kind, span in spans.items():
                for block in _blocks(consumer, getattr(topics, kind), held[kind], span, selection, done):
                    exporting.add(kind, block)
                    read += len(block.messages)
                    told(read, max(total, read))
        finally:
            consumer.close()
            unstable.close()
        if not file.rows:
            raise NoRecords(_nothing(tenant, selection, done))
        done.columns = file.finish()
    done.predictors.sort()
    return done


def _held(consumer: Consumer, topic: str) -> dict[int, Bounds]:
    held = bounds(consumer, topic)
    if not held:
        raise Fatal(f"there is no topic {topic}; `muse-stream topics CONFIG` makes what a configuration needs")
    return held


def _span(consumer: Consumer, topic: str, held: Mapping[int, Bounds], selection: Selection) -> dict[int, Bounds]:
    until_ms = None if selection.until_ms is None else selection.until_ms + SKEWED_MS
    return between(consumer, topic, held, selection.since_ms, until_ms)


def _blocks(
    consumer: Consumer,
    topic: str,
    held: Mapping[int, Bounds],
    span: Mapping[int, Bounds],
    selection: Selection,
    done: Exported,
) -> Iterator[Block]:
    reading = Reading(consumer, topic, span, selection.settle_s)
    end_ms = selection.until_ms or round(datetime.now(UTC).timestamp() * 1000)
    begins = Beginnings(topic, held, span, selection.since_ms, end_ms)
    for block in reading:
        begins.see(block)
        yield block
    done.notes += begins.gone()
    for partition, offset in reading.unstable.items():
        done.notes.append(
            f"{topic}[{partition}]: records from offset {offset} on are left out: a transaction is still open; "
            "`muse-stream doctor CONFIG` says whether it hangs, and what ends it"
        )


class _Export:
    """Takes blocks of the topics and writes what is the tenant's."""

    def __init__(self, tenant: str, events: str, selection: Selection, file: RecordFile, done: Exported) -> None:
        self._tenant, self._events, self._selection, self._file, self._done = tenant, events, selection, file, done
        schemas = output_schemas()
        self._tables = {kind: RecordTables(schemas, schemas.by_file(name)) for kind, name in SCHEMAS.items()}

    def add(self, kind: Kind, block: Block) -> None:
        """Write what a block has."""
        read = self._tables[kind].read(block.values())
        self._note_rejected(block, read)
        stamps = np.array(block.timestamps(), dtype=np.int64)[read.rows]
        chosen = np.flatnonzero(self._asked(read.table) & self._within(stamps))
        if not len(chosen):
            return
        rows, written = read.rows[chosen], stamps[chosen]
        records = read.table.take(chosen)
        beside: dict[str, Any] = {
            "record": NAMES[kind],
            "topic": block.topic,
            "partition": np.array(block.partitions, dtype=np.int32)[rows],
            "offset": np.array(block.offsets, dtype=np.int64)[rows],
            "written_at": written,
            "key": [block.messages[row].key() for row in rows.tolist()],
        }
        if kind == "audit":  # records of the first version have null there: it was that of the record
            beside["live_generation"] = records.column("live_generation").fill_null(records.column("generation"))
        self._file.write(records, beside)
        self._count(kind, records, written)

    def _asked(self, table: Any) -> NDArray[np.bool_]:
        """Return which records are the tenant's, and of the events that are asked for."""
        asked, chosen = self._selection.from_offset, np.asarray(_array(table, "tenant") == self._tenant)
        if asked is None:
            return chosen
        offsets, first = _array(table, "source_offset"), np.zeros(len(table), dtype=np.int64)
        if isinstance(asked, int):
            first[:] = asked
        else:
            first[:] = [asked.get(partition, 0) for partition in _array(table, "source_partition").tolist()]
        return np.asarray(chosen & (_array(table, "source_topic") == self._events) & (offsets >= first))

    def _within(self, written: NDArray[np.int64]) -> NDArray[np.bool_]:
        since, until = self._selection.since_ms, self._selection.until_ms
        last = np.iinfo(np.int64).max if until is None else until
        return np.asarray((written >= (since or 0)) & (written < last))

    def _note_rejected(self, block: Block, read: RecordTable) -> None:
        done = self._done
        done.undecodable += len(read.rejected)
        for one in read.rejected[: SHOWN - len(done.examples)]:
            done.examples.append(f"{block.topic}[{block.partitions[one.row]}]@{block.offsets[one.row]}: {one.message}")

    def _count(self, kind: Kind, records: Any, written: NDArray[np.int64]) -> None:
        done = self._done
        setattr(done, kind, getattr(done, kind) + len(records))
        first, last = (datetime.fromtimestamp(int(one) / 1000, UTC) for one in (written.min(), written.max()))
        done.first = first if done.first is None else min(done.first, first)
        done.last = last if done.last is None else max(done.last, last)
        known = set(done.predictors)
        done.predictors += [name for name in records.column("predictor").unique().to_pylist() if name not in known]


def _array(table: Any, name: str) -> NDArray[Any]:
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False))


def _nothing(tenant: str, selection: Selection, done: Exported) -> str:
    what = " or ".join(f"{NAMES[kind]} records" for kind in selection.kinds)
    bounded = selection.since_ms is not None or selection.until_ms is not None or selection.from_offset is not None
    where = " in what was asked for (--since, --until, --from-offset)" if bounded else ""
    other = f"; {done.undecodable:,} records there are none of ours, as {done.examples[0]}" if done.examples else ""
    notes = "".join(f"; {note}" for note in done.notes)
    return f"tenant {tenant}: there are no {what}{where}{other}{notes}. Nothing was written"
