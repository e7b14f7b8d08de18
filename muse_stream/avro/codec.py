"""One writer schema's decoders: many records at once by pyruhvro, one record by `strict` or by fastavro.

Payloads (frames cut off) become an Arrow RecordBatch, or one dict; `Malformed` is raised when the bytes are not such a
record.

Invariant: a payload is consumed to its last byte or refused. In a batch this costs one concatenation per record: a
known 8-byte tail is appended and decoded as one more field, which is itself again only if the record ended where the
payload did. pyruhvro knows no bytes and fixed and may panic, so it is tried on made-up records before it is trusted,
and never given more than `MOST_MEMORY` is known to be enough for: an allocation that fails there ends the process. It
does not look at the bytes of strings either, so the code that takes text from a batch checks that it is UTF-8.
"""

import io
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyruhvro
from numpy.typing import NDArray

from muse_stream.avro import types
from muse_stream.avro.memory import Memory
from muse_stream.avro.samples import samples
from muse_stream.avro.schemas import Schema
from muse_stream.avro.strict import Malformed, Wanted, end_of, read
from muse_stream.avro.types import Type

TAIL = os.urandom(8)
"""Appended to each payload; random, so that no record can end in it on purpose."""
TAIL_FIELD = "muse_wire_tail_"
PROBE_RECORDS = 20
BATCH_LACKS = frozenset({"bytes", "fixed"})
"""Kinds that pyruhvro 0.4 panics on, so that it is not even asked."""
NAMED = 3
"""Fields that are named as the cause, at most."""
MOST_BRANCHES = 100
"""Of a union: Arrow counts them in 7 bits, and pyruhvro panics beyond."""
MOST_MEMORY = 256 << 20
"""Bytes that one call of the batch decoder may take."""


class Codec:
    """Decodes what one schema wrote."""

    def __init__(self, schema: Schema) -> None:
        self.name = schema.name
        self._type = schema.type
        self._record = fastavro.parse_schema(types.physical(schema.type))
        document = types.physical(schema.type, widen=True)
        self._wide = fastavro.parse_schema(types.physical(schema.type, widen=True))
        document["fields"].append({"name": TAIL_FIELD, "type": "double"})
        self._batch = json.dumps(document)
        self._memory = Memory.of(schema.type)
        self.batched = suits_batches(schema.type) and self._probe()

    def batch(self, payloads: Sequence[bytes], skip: int = 0) -> tuple[pa.RecordBatch, NDArray[np.bool_] | None]:
        """Decode all payloads, without the first `skip` bytes of each; raises Malformed if one of them is not a record.

        Returns the batch (int fields as int64) and the rows that have bytes left over, None if none has. Raises
        Malformed too when all of them together might take more than `MOST_MEMORY`.
        """
        if self._memory.needed(len(payloads), sum(map(len, payloads))) > MOST_MEMORY:
            raise Malformed("too much to decode at once")
        decoded = guarded(pyruhvro.deserialize_array, [payload[skip:] + TAIL for payload in payloads], self._batch)
        tails = decoded.column(TAIL_FIELD).to_numpy().view(np.int64)
        wrong = tails != np.frombuffer(TAIL, np.int64)[0]
        return decoded, wrong if wrong.any() else None

    def read(self, payload: bytes, wanted: Wanted) -> dict[str, Any]:
        """Decode the wanted fields of one payload, as `strict.read`; raises Malformed, also for bytes left over."""
        record, end = read(self._type, wanted, payload)
        _ends(payload, end)
        return record

    def record(self, payload: bytes) -> dict[str, Any]:
        """Decode one payload whole, by fastavro; raises Malformed, also for bytes left over."""
        _ends(payload, end_of(self._type, payload))
        try:
            record = fastavro.schemaless_reader(io.BytesIO(payload), self._record, None)
        except Exception as error:  # noqa: BLE001 - fastavro raises whatever its readers happen to
            raise Malformed(f"{type(error).__name__}: {error}") from None
        return dict(record)  # type: ignore[arg-type]

    def _widened(self, payload: bytes) -> Any:
        return fastavro.schemaless_reader(io.BytesIO(payload), self._wide, None)

    def _probe(self) -> bool:
        """Whether pyruhvro reads made-up records as fastavro does; any doubt means no."""
        payloads = samples(self._type, PROBE_RECORDS)
        try:
            decoded, wrong = self.batch(payloads)
            rows = decoded.drop_columns([TAIL_FIELD]).to_pylist()
            return wrong is None and all(map(_alike, rows, map(self._widened, payloads)))
        except Exception:  # noqa: BLE001 - Malformed, or whatever Arrow says about an array it was handed
            return False


def slow_because(schema: Schema) -> str:
    """Say why a schema's records are decoded one by one, which takes about ten times the CPU; empty if they are not."""
    if codec_for(schema).batched:
        return ""
    found = [
        f"{path} is {node.logical or node.kind}" if node.kind in BATCH_LACKS else f"{path} is a union of many types"
        for path, node in types.walk(schema.type)
        if node.kind in BATCH_LACKS or len(node.branches) > MOST_BRANCHES
    ]
    named = ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
    return named or "the batch decoder does not read its records as they were written"


def suits_batches(node: Type) -> bool:
    """Say whether pyruhvro can be asked about the schema at all: what it lacks makes it panic, and print so."""
    return not types.any_type(node, lambda one: one.kind in BATCH_LACKS or len(one.branches) > MOST_BRANCHES)


def _ends(payload: bytes, end: int) -> None:
    if end != len(payload):
        raise Malformed(f"{len(payload) - end} bytes left over after the record")


@lru_cache(maxsize=256)
def codec_for(schema: Schema) -> Codec:
    """Return the schema's codec, probed once per process."""
    return Codec(schema)


def guarded(function: Any, *arguments: Any) -> Any:
    """Call into Rust; whatever it says about the data, a panic included, becomes Malformed."""
    try:
        return function(*arguments)
    except Exception as error:  # noqa: BLE001 - ValueError, UnicodeDecodeError, OverflowError: all mean bad bytes
        raise Malformed(f"{type(error).__name__}: {error}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # pyo3's own class; it cannot be imported
            raise
        raise Malformed("the batch decoder panicked") from None


def _alike(one: Any, other: Any) -> bool:
    """Compare Arrow's and fastavro's Python values; a map is a list of pairs in the one, a dict in the other."""
    if isinstance(other, dict) and isinstance(one, list):
        one = dict(one)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return type(one) is type(other) and bool(one == other or (one != one and other != other))  # noqa: PLR0124 - NaN
