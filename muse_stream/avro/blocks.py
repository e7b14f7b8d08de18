"""Many records of one schema, decoded as one array.

Records side by side are what an Avro array is made of, so a batch is joined once and decoded in one piece; to give the
decoder each record by itself would copy each. An array does not say where a record ends. So a head of 16 bytes stands
before each, random but for the frame that the record came with, and is decoded as two more fields.

Invariant: a batch is decoded as its records are one by one, or `Malformed` is raised. There are as many heads as
records, each record must begin at one, and what ends the array must follow the last: no record can be longer or shorter
than its own bytes without a head being missed, and nobody outside of this process can write one.
"""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from muse_stream.avro.samples import varint
from muse_stream.avro.stand_ins import has_length
from muse_stream.avro.strict import Malformed
from muse_stream.avro.types import Type, any_type

HEAD = os.urandom(16)
END = os.urandom(8)
HEAD_FIELDS = ("muse_head_0_", "muse_head_1_")
LEAST = 1000
"""Fewer records cost no less than when each is copied: a block takes 80 microseconds more a call."""


class Blocks:
    """Decodes blocks of one schema's records; `decode` is the batch decoder: data and schema JSON to a RecordBatch."""

    def __init__(self, document: dict[str, Any], decode: Callable[[list[bytes], str], pa.RecordBatch]) -> None:
        """`document`: the record's schema, as the batch decoder is given it."""
        fields = [{"name": name, "type": "double"} for name in HEAD_FIELDS] + document["fields"]
        self._names = [field["name"] for field in document["fields"]]
        entries = {"type": "array", "items": document | {"fields": fields}}
        parts = [{"name": "records", "type": entries}, {"name": "end", "type": "double"}]
        self._schema = json.dumps({"type": "record", "name": "muse_block_", "fields": parts})
        self._decode = decode

    def decode(self, values: Sequence[bytes], skip: int) -> pa.RecordBatch:
        """Decode all values, each behind a frame of `skip` bytes that is the same in all.

        Raises Malformed when one of them is no such record.
        """
        between = HEAD[skip:]
        joined = (varint(len(values)), between, between.join(values), b"\0", END)
        decoded = self._decode([b"".join(joined)], self._schema)
        records, end = decoded.column(0).values, decoded.column(1)
        heads = np.frombuffer(between + values[0][:skip], np.int64)
        if len(records) != len(values) or _bits(end)[0] != np.frombuffer(END, np.int64)[0]:
            raise Malformed("not as many records as values")
        if any((_bits(records.field(at)) != head).any() for at, head in enumerate(heads)):
            raise Malformed("a record does not end where its value does")
        first = len(HEAD_FIELDS)
        return pa.RecordBatch.from_arrays(
            [records.field(first + at) for at in range(len(self._names))], names=self._names
        )


def suits_blocks(node: Type) -> bool:
    """Say whether records of a schema may be decoded in blocks: numbers, texts and records, each nullable or not.

    Not lists and maps, of which an entry costs as much as a record, not a `fixed` whose length must be written before
    it, and not unions of two types: what the batch decoder does with those inside a list is not relied on.
    """

    def other(one: Type) -> bool:
        two = one.kind == "union" and len([branch for branch in one.branches if branch.kind != "null"]) != 1
        return two or one.kind in ("array", "map") or has_length(one)

    return not any_type(node, other)


def _bits(array: pa.DoubleArray) -> np.ndarray[Any, np.dtype[np.int64]]:
    bits: np.ndarray[Any, np.dtype[np.int64]] = array.to_numpy().view(np.int64)
    return bits
