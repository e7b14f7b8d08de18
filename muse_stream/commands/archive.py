"""Keep score and audit records as Parquet files, partitioned by record, tenant and day, as they come.

    DIR/record=score/tenant=acme/day=2026-11-26/muse.scores.acme-3-00000000000000041200-00000000000000052100.parquet

A file's name says which offsets of which partition of which topic it covers: from the first, up to before the second.

Invariant: every committed record stands in one file, once, whatever is killed when. A partition's position is a file,
too. It says up to where everything is in files, and, before files are written, up to where they will go; a process that
finds that writes the same files again, under the same names. So files are never taken away, and never overlap.
"""

import fcntl
import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import RecordTables
from muse_stream.commands.audit import KINDS, NAMES, SCHEMAS, Kind
from muse_stream.commands.configuration import Configuration
from muse_stream.config import Document, KafkaSettings
from muse_stream.errors import MuseError, Retriable, SchemaPending
from muse_stream.files import RecordFile
from muse_stream.kafka import Block, Bounds, Consumer, Reading, bounds, client, reader
from muse_stream.runtime.answer_reader import output_schemas

ALL = "*"
"""In place of a tenant: every tenant."""
POSITIONS = "_positions"
"""Folder of positions; readers of such folders pass over names that begin so."""
SPAN = 100_000
"""Offsets of a partition that become files at once."""
DAY_MS = 86_400_000

TENANT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,200}")
"""What may be the name of a folder; somebody else may have written to a topic of ours."""
Part = tuple[str, str]
"""Tenant and day."""


@dataclass(slots=True)
class Archived:
    """What a pass has written."""

    scores: int = 0
    audit: int = 0
    files: int = 0
    undecodable: int = 0
    """Records that are no score or audit record; they are in no file."""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a partition is in files."""

    done: int = 0
    """The first offset that is in no file."""
    writing: int | None = None
    """Files from there up to before this offset may be there, or some of them."""


class Archive:
    """A folder of files and positions, held by one process at a time: `with opened(folder, tenant) as archive`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def position(self, topic: str, partition: int) -> Position:
        """Return how far a partition is; raises MuseError for a file that says nothing."""
        path = self._path(topic, partition)
        try:
            found = json.loads(path.read_bytes())
            return Position(int(found["done"]), None if found["writing"] is None else int(found["writing"]))
        except FileNotFoundError:
            return Position()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MuseError(f"{path}: cannot be read: {error}; the names of the files say where to begin") from None

    def note(self, topic: str, partition: int, position: Position) -> None:
        """Say how far a partition is, on disk when this returns."""
        path = self._path(topic, partition)
        fresh = path.with_suffix(".new")
        with fresh.open("w", encoding="ascii") as file:
            json.dump({"done": position.done, "writing": position.writing}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync(path.parent)

    def _path(self, topic: str, partition: int) -> Path:
        return self.folder / POSITIONS / f"{topic}-{partition}.json"


@contextmanager
def opened(folder: Path, tenant: str) -> Iterator[Archive]:
    """Hold a folder, which is made, for a tenant, or for all.

    Raises MuseError where another process holds it, it is for another tenant, or nothing can be written.
    """
    try:
        (folder / POSITIONS).mkdir(parents=True, exist_ok=True)
        lock = (folder / POSITIONS / "lock").open("w")
    except OSError as error:
        raise MuseError(f"{folder}: cannot be written: {error.strerror}") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MuseError(f"{folder}: another process writes there; give each a folder of its own") from None
        whose = folder / POSITIONS / "tenant"
        if not whose.exists():
            whose.write_text(tenant, encoding="utf-8")
        if (before := whose.read_text(encoding="utf-8")) != tenant:
            raise MuseError(f"{folder}: is an archive of {before}, not of {tenant}; give each a folder of its own")
        yield Archive(folder)


def follow(
    configuration: Callable[[], Configuration],
    settings: KafkaSettings,
    tenant: str,
    folder: Path,
    *,
    every_s: float,
    once: bool = False,
    stop: threading.Event | None = None,
    told: Callable[[Archived], object] = lambda _done: None,
) -> None:
    """Archive what there is, and again every so many seconds, until `stop`; `once` ends after the first pass.

    `configuration` is asked before each pass, so that new tenants of a store are found. `told` gets what each pass has
    written. Raises MuseError for the folder or the tenant; waits while Kafka or a registry does not answer, but for
    the first pass.
    """
    stopping = stop or threading.Event()
    with opened(folder, tenant) as archive:
        began = False
        while not stopping.is_set():
            try:
                told(_pass(archive, configuration(), settings, tenant))
                began = True
            except (Retriable, SchemaPending) as error:
                if once or not began:
                    raise
                told(Archived(notes=[str(error)]))
            if once or stopping.wait(every_s):
                return


def _pass(archive: Archive, configuration: Configuration, settings: KafkaSettings, tenant: str) -> Archived:
    document = configuration.loaded.document
    names = tuple(document.tenants) if tenant == ALL else (configuration.tenant(tenant),)
    client.reach(settings)
    consumer, done = reader(settings), Archived()
    try:
        for kind in KINDS:
            for topic in topics_of(document, kind, names):
                held = bounds(consumer, topic)
                if not held:
                    done.notes.append(f"there is no topic {topic}")
                for partition, bound in held.items():
                    span = _Span(archive, kind, topic, partition, None if tenant == ALL else tenant)
                    while span.advance(consumer, bound, done):
                        pass
    finally:
        consumer.close()
    return done


def topics_of(document: Document, kind: Kind, tenants: tuple[str, ...]) -> list[str]:
    """Return the topics of some tenants, each once."""
    return list(dict.fromkeys(getattr(document.tenant_topics(name), kind) for name in tenants))


class _Span:
    """One partition, from its position on."""

    def __init__(self, archive: Archive, kind: Kind, topic: str, partition: int, tenant: str | None) -> None:
        """`tenant`: the only one whose records are kept; None: everybody's."""
        self._archive, self._kind, self._topic, self._partition = archive, kind, topic, partition
        self._tenant = tenant
        schemas = output_schemas()
        self._tables = RecordTables(schemas, schemas.by_file(SCHEMAS[kind]))

    def advance(self, consumer: Consumer, bound: Bounds, done: Archived) -> bool:
        """Put the next records into files; False when there are none that are committed."""
        position = self._archive.position(self._topic, self._partition)
        place = f"{self._topic}[{self._partition}]"
        if position.done > bound.high:
            raise MuseError(
                f"{place} ends at {bound.high}, and {position.done} was archived: it was made anew? Use another folder"
            )
        low, removed = max(position.done, bound.low), bound.low > position.done
        if removed and (position.done or position.writing):
            done.notes.append(f"{place}: offsets {position.done} to {low} were removed before they were archived")
        again = position.writing is not None
        wanted = position.writing if position.writing is not None else min(bound.high, low + SPAN)
        first = position.done if again else low
        if wanted <= first:
            return False
        parts, end = self._read(consumer, Bounds(low, max(low, wanted)), done)
        if not again:
            if end <= first:
                return False
            self._archive.note(self._topic, self._partition, Position(first, end))
        end = wanted if again else end
        name = f"{self._topic}-{self._partition}-{first:020}-{end:020}.parquet"
        for (tenant, day), batches in sorted(parts.items()):
            self._write(tenant, day, name, batches, done, keep=again and removed)
        self._archive.note(self._topic, self._partition, Position(end))
        return end < bound.high

    def _read(
        self, consumer: Consumer, span: Bounds, done: Archived
    ) -> tuple[dict[Part, list[tuple[Any, dict[str, Any]]]], int]:
        """Return the committed records of a span by tenant and day, and up to where they were read."""
        reading = Reading(consumer, self._topic, {self._partition: span}, 0.0)
        parts: dict[Part, list[tuple[Any, dict[str, Any]]]] = {}
        for block in reading:
            self._sort(block, parts, done)
        return parts, reading.unstable.get(self._partition, span.high)

    def _sort(self, block: Block, parts: dict[Part, list[tuple[Any, dict[str, Any]]]], done: Archived) -> None:
        read = self._tables.read(block.values())
        done.undecodable += len(read.rejected)
        written = np.array(block.timestamps(), dtype=np.int64)[read.rows]
        offsets = np.array(block.offsets, dtype=np.int64)[read.rows]
        tenants = np.asarray(read.table.column("tenant").to_numpy(zero_copy_only=False))
        days = written // DAY_MS
        for tenant, day in sorted({*zip(tenants.tolist(), days.tolist(), strict=True)}):
            if self._tenant not in (None, tenant):
                continue
            if not TENANT.fullmatch(tenant):
                done.undecodable += int(np.sum((tenants == tenant) & (days == day)))
                continue
            chosen: NDArray[np.int64] = np.flatnonzero((tenants == tenant) & (days == day))
            records = read.table.take(chosen)
            beside: dict[str, Any] = {
                "record": NAMES[self._kind],
                "topic": self._topic,
                "partition": self._partition,
                "offset": offsets[chosen],
                "written_at": written[chosen],
                "key": [block.messages[row].key() for row in read.rows[chosen].tolist()],
            }
            if self._kind == "audit":
                beside["live_generation"] = records.column("live_generation").fill_null(records.column("generation"))
            part = (tenant, str(np.datetime64(int(day), "D")))
            parts.setdefault(part, []).append((records, beside))

    def _write(
        self, tenant: str, day: str, name: str, batches: list[tuple[Any, dict[str, Any]]], done: Archived, *, keep: bool
    ) -> None:
        """Write one file; `keep` one that is there: it has what the topic no longer has."""
        path = self._archive.folder / f"record={NAMES[self._kind]}" / f"tenant={tenant}" / f"day={day}" / name
        for begun in path.parent.glob(f".{path.name}.*"):  # by a process that was killed: we hold the folder
            begun.unlink()
        if keep and path.exists():
            return
        with RecordFile(path) as file:
            for records, beside in batches:
                file.write(records, beside)
            file.finish()
            setattr(done, self._kind, getattr(done, self._kind) + file.rows)
        for folder in (path.parent, path.parent.parent, path.parent.parent.parent):
            _sync(folder)
        done.files += 1


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
