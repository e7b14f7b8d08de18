"""Score and audit records as columns of what is counted: which tenant, predictor content, day and map, and the numbers.

One decoding call per schema and batch, no loop over records but for the hash of their keys. A record that cannot be
counted is left out and counted by reason.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import Decoder, Fields
from muse_stream.calibration import CELLS, GROUPS
from muse_stream.config import Document, content_hash, load_document, pre_map_hash
from muse_stream.control import Store
from muse_stream.errors import MuseError
from muse_stream.runtime.answer_reader import OUTPUT_SCHEMA, output_schemas
from muse_stream.scoring import Categorical, promised_rates

DAY_MS = 86_400_000
CELL_MS = DAY_MS // CELLS
EPOCH = datetime(1970, 1, 1, tzinfo=UTC).toordinal()
KEPT_DAYS = 62
"""Counts of older days are removed, and records of them are not counted."""
COLUMNS = ("tenant", "predictor", "score", "aggregate", "generation", "scored_at")

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Content:
    """What a predictor was for a tenant under some generations."""

    content: str
    """Content hash up to its map."""
    map_id: str
    """Of the tenant's quantile map and its reference; empty: it has none."""
    thresholds: tuple[float, ...]


class Contents:
    """Looks generations up in a store, each once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._documents: dict[int, Document | None] = {}
        self._found: dict[tuple[int, str, str], Content | None] = {}

    def of(self, generation: int, tenant: str, predictor: str) -> Content | None:
        """Return what it was; None where the store has no such generation. Raises StoreError where it cannot tell."""
        key = generation, tenant, predictor
        if key not in self._found:
            document = self._document(generation)
            self._found[key] = None if document is None else content_of(document, tenant, predictor)
        return self._found[key]

    def _document(self, number: int) -> Document | None:
        if number not in self._documents:
            if number not in {entry.number for entry in self._store.list() if not entry.problem}:
                return None
            opened = self._store.open(number)
            try:
                self._documents[number] = load_document(opened.path).document
            except MuseError:  # not ours to judge: it was served
                self._documents[number] = None
        return self._documents[number]


def content_of(document: Document, tenant: str, predictor: str) -> Content | None:
    """Return what a predictor is for a tenant; None where there is no such predictor."""
    known = document.predictors.get(predictor)
    if known is None:
        return None
    graph = known.graph()
    content, name = pre_map_hash(document, predictor), graph.promise()
    node = graph.nearest_map()
    used = node.map_of(tenant) if node is not None else None
    if node is None or used is None or name is None:
        return Content(content, "", ())
    reference = document.references[node.reference]
    identity = content_hash([document.maps[used].model_dump(mode="json"), reference.model_dump(mode="json")])
    return Content(content, identity[:16], tuple(promised_rates(reference)))


@dataclass(frozen=True, slots=True)
class Key:
    """What one row belongs to."""

    tenant: str
    predictor: str
    day: str
    content: Content


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows to count; every array is [rows]."""

    key: Integers
    """Position in `ScoreReader.keys`."""
    place: Integers
    """Position in `ScoreReader.places`."""
    offset: Integers
    aggregate: Floats
    score: Floats
    cell: Integers
    group: Integers


class ScoreReader:
    """Decodes records and gives each row its key."""

    def __init__(self, contents: Contents, tenants: Sequence[str]) -> None:
        self._contents, self.tenants = contents, frozenset(tenants)
        self.keys: list[Key] = []
        self.left_out: Counter[str] = Counter()
        """Reason -> records."""
        self._codes: dict[tuple[int, str, str, int], int] = {}

    def read(
        self,
        audit: bool,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        place: Integers,
        offset: Integers,
    ) -> Rows:
        """Return what is to be counted of some records of one kind of topic. Raises StoreError."""
        decoded = _decoder(audit).decode(values)
        self._leave_out("not readable", len(values) - len(decoded.rows))

        def numbers(name: str) -> Floats:
            return np.asarray(decoded.columns[name], dtype=np.float64)

        tenants, predictors = _texts(decoded.columns["tenant"]), _texts(decoded.columns["predictor"])
        score, aggregate, at = numbers("score"), numbers("aggregate"), numbers("scored_at")
        sound = (score >= 0.0) & (score <= 1.0) & (aggregate >= 0.0) & (aggregate <= 1.0)
        self._leave_out("no score", int((~sound).sum()))
        day = np.where(np.isnan(at), 0, at // DAY_MS).astype(np.int64)
        now = datetime.now(UTC).toordinal() - EPOCH
        timely = (day > now - KEPT_DAYS) & (day <= now + 1)
        self._leave_out("too old, or of the future", int((sound & ~timely).sum()))
        combined = self._keys(tenants, predictors, numbers("generation").astype(np.int64), day, sound & timely)
        rows = np.flatnonzero(combined >= 0)
        taken = decoded.rows[rows]
        group = np.fromiter(
            map(_group, [keys[row] for row in taken.tolist()], offset[taken].tolist()), np.int64, len(rows)
        )
        cell = (at[rows] % DAY_MS // CELL_MS).astype(np.int64)
        return Rows(combined[rows], place[taken], offset[taken], aggregate[rows], score[rows], cell, group)

    def _keys(
        self,
        tenants: Categorical,
        predictors: Categorical,
        generation: Integers,
        day: Integers,
        wanted: NDArray[np.bool_],
    ) -> Integers:
        """Return the key of each row, -1 where it is left out; looked up once for each distinct combination."""
        rows = np.flatnonzero(wanted)
        found = np.full(len(wanted), -1, dtype=np.int64)
        if not len(rows):
            return found
        mixed = np.zeros(len(rows), dtype=np.int64)
        for column in (tenants.codes, predictors.codes, generation, day):
            _, code = np.unique(column[rows], return_inverse=True)
            mixed = mixed * (int(code.max()) + 1) + code.reshape(-1)
        _, first, inverse, counts = np.unique(mixed, return_index=True, return_inverse=True, return_counts=True)
        codes = np.full(len(first), -1, dtype=np.int64)
        for at, (row, count) in enumerate(zip(rows[first].tolist(), counts.tolist(), strict=True)):
            tenant = _text(tenants, row)
            if tenant not in self.tenants:
                continue  # another lane's
            known = self._code(int(generation[row]), tenant, _text(predictors, row), int(day[row]))
            if known is None:
                self._leave_out("unknown generation", count)
            else:
                codes[at] = known
        found[rows] = codes[inverse.reshape(-1)]
        return found

    def _code(self, generation: int, tenant: str, predictor: str, day: int) -> int | None:
        known = self._codes.get((generation, tenant, predictor, day))
        if known is not None:
            return known
        content = self._contents.of(generation, tenant, predictor)
        if content is None:
            return None
        text = datetime.fromtimestamp(day * 86_400, UTC).date().isoformat()
        self.keys.append(Key(tenant, predictor, text, content))
        self._codes[generation, tenant, predictor, day] = len(self.keys) - 1
        return len(self.keys) - 1

    def _leave_out(self, reason: str, count: int) -> None:
        if count:
            self.left_out[reason] += count


@cache
def _decoder(audit: bool) -> Decoder:
    schemas = output_schemas()
    schema = schemas.by_file(OUTPUT_SCHEMA["shadow" if audit else "live"])
    return Decoder(schemas, schema, Fields("event_id", columns=COLUMNS))


def _texts(column: object) -> Categorical:
    assert isinstance(column, Categorical)  # noqa: S101  # a string in either schema
    return column


def _text(column: Categorical, row: int) -> str:
    code = int(column.codes[row])
    return "" if code < 0 else column.values[code] or ""


def _group(key: bytes | None, offset: int) -> int:
    return (offset if key is None else zlib.crc32(key)) % GROUPS
