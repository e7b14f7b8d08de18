"""One writer schema's decoders: many records at once by pyruhvro, one record by `strict` or by fastavro.

Payloads (frames cut off) become an Arrow RecordBatch, or one dict; `Malformed` is raised when the bytes are not such a
record.

Invariant: a payload is consumed to its last byte or refused. Large batches are joined and decoded in one piece
(`blocks`). Where that cannot be, or a record of them is bad, it costs one concatenation per record: a known 8-byte tail
is appended and decoded as one more field, which is itself again only if the record ended where the payload did.
pyruhvro knows no bytes and fixed, which others stand in for (`stand_ins`), and may panic, so it is tried on made-up
records before it is trusted, and never given more than `MOST_MEMORY` is known to be enough for: an allocation that
fails there ends the process. What it lets pass and `strict` does not is looked for after it (`exact`).
"""

import io
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa
import pyruhvro
from numpy.typing import NDArray

from muse_stream.avro import stand_ins, types
from muse_stream.avro.blocks import LEAST, Blocks, suits_blocks
from muse_stream.avro.exact import Checks
from muse_stream.avro.lengths import Lengths
from muse_stream.avro.memory import Memory
from muse_stream.avro.samples import samples
from muse_stream.avro.schemas import Schema
from muse_stream.avro.strict import Malformed, Wanted, end_of, read
from muse_stream.avro.types import Type

TAIL = os.urandom(8)
"""Appended to each payload; random, so that no record can end in it on purpose."""
TAIL_FIELD = "muse_wire_tail_"
PROBE_RECORDS = 20
NAMED = 3
"""Fields that are named as the cause, at most."""
MOST_BRANCHES = 100
"""Of a union: Arrow counts them in 7 bits, and pyruhvro panics beyond."""
ROWS_AN_ENTRY = 4
MOST_MEMORY = 256 << 20
"""Bytes that one call of the batch decoder may take."""


class Codec:
    """Decodes what one schema wrote."""

    def __init__(self, schema: Schema) -> None:
        self.name = schema.name
        self._type = schema.type
        self._record = fastavro.parse_schema(types.physical(schema.type))
        document = stand_ins.document(schema.type)
        blocks = Blocks(document, _decode)
        document["fields"].append({"name": TAIL_FIELD, "type": "double"})
        self._batch = json.dumps(document)
        self._memory = Memory.of(schema.type)
        self._lengths = Lengths(schema.type)
        self._checks = Checks.of(schema.type)
        self.plain = stand_ins.plain(schema.type)
        self.blocks: Blocks | None = None
        """What decodes many records as one, where that can be."""
        self.batched = suits_batches(schema.type) and self._probe()
        if self.batched and suits_blocks(schema.type) and self._probe(blocks):
            self.blocks = blocks

    def batch(
        self, payloads: Sequence[bytes], skip: int = 0, entries: int | None = None
    ) -> tuple[pa.RecordBatch, NDArray[np.bool_] | None]:
        """Decode all payloads, without the first `skip` bytes of each; raises Malformed if one of them is not a record.

        Returns the batch (in the types of `stand_ins`) and the rows that have bytes left over, None if none has. Raises
        Malformed too when all of them together might take more than `MOST_MEMORY`, or have longer lists before a fixed
        than is worth it: than `entries`, or one for each `ROWS_AN_ENTRY` records.
        """
        if self._memory.needed(len(payloads), sum(map(len, payloads))) > MOST_MEMORY:
            raise Malformed("too much to decode at once")
        if self.blocks is not None and len(payloads) >= LEAST:
            with suppress(Malformed):
                return self._checked(self.blocks.decode(payloads, skip)), None
        records = [payload[skip:] + TAIL for payload in payloads]
        if self._lengths.needed:
            records = self._lengths.write(
                records, len(TAIL), len(records) // ROWS_AN_ENTRY if entries is None else entries
            )
        decoded = self._checked(_decode(records, self._batch))
        tails = decoded.column(TAIL_FIELD).to_numpy().view(np.int64)
        wrong = tails != np.frombuffer(TAIL, np.int64)[0]
        return decoded, wrong if wrong.any() else None

    def _checked(self, decoded: pa.RecordBatch) -> pa.RecordBatch:
        if self._checks is not None:
            self._checks.batch(decoded)
        return decoded

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

    def _probe(self, blocks: Blocks | None = None) -> bool:
        """Whether pyruhvro reads made-up records as fastavro does; any doubt means no.

        `blocks`: in one piece.
        """
        payloads = samples(self._type, PROBE_RECORDS)
        try:
            if blocks is not None:
                decoded, wrong = blocks.decode(payloads, 0), None
            else:
                decoded, wrong = self.batch(payloads, 0, sum(map(len, payloads)))
            columns = [stand_ins.values(part.type, decoded.column(part.name)) for part in self._type.fields]
            expected = [list(self.record(payload).values()) for payload in payloads]
            return wrong is None and repr(list(map(list, zip(*columns, strict=True)))) == repr(expected)
        except Exception:  # noqa: BLE001 - Malformed, or whatever Arrow says about an array it was handed
            return False


def _decode(records: list[bytes], schema: str) -> pa.RecordBatch:
    """Decode records as the schema says, by pyruhvro; raises Malformed."""
    return guarded(pyruhvro.deserialize_array, records, schema)


def slow_because(schema: Schema) -> str:
    """Say why a schema's records are decoded one by one, which takes about ten times the CPU; empty if they are not."""
    if codec_for(schema).batched:
        return ""
    found = [path for path, node in types.walk(schema.type) if len(node.branches) > MOST_BRANCHES]
    named = [f"{path} is a union of more than {MOST_BRANCHES} types" for path in found[:NAMED]]
    named += [f"and {len(found) - NAMED} more"] if len(found) > NAMED else []
    return ", ".join(named) or "the batch decoder does not read its records as they were written"


def suits_batches(node: Type) -> bool:
    """Say whether pyruhvro can be asked about the schema at all: what it lacks makes it panic, and print so."""
    return not types.any_type(node, lambda one: len(one.branches) > MOST_BRANCHES)


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
