"""What the batch decoder lets pass and the record decoder refuses: text that is not UTF-8, an int that is too large.

A `Type` gives `Checks`, which look at a decoded batch: the same records are refused whether they are decoded in a batch
or alone. Looks at every column that has such values, at a column at a time.
"""

import numpy as np
import pyarrow as pa
from msgspec import Struct

from muse_stream.avro.strict import Malformed
from muse_stream.avro.types import Type

INT = 2**31


class Checks(Struct, frozen=True):
    """What to look at in the array of a type."""

    kind: str
    inner: tuple[tuple[int, "Checks"], ...] = ()
    """By the place of a field, a branch, or the entries of a list."""

    @classmethod
    def of(cls, node: Type) -> "Checks | None":
        """Return the checks of a type; None if there is nothing to look at."""
        if node.kind in ("string", "int"):
            return cls(node.kind)
        parts = [part.type for part in node.fields] or list(node.branches) or ([node.items] if node.items else [])
        inner = tuple((at, found) for at, part in enumerate(parts) if (found := cls.of(part)) is not None)
        return cls(node.kind, inner) if inner or node.kind == "map" else None

    def batch(self, batch: pa.RecordBatch) -> None:
        """Look at a whole batch of records; raises Malformed when one of them is refused, whichever it is."""
        for at, check in self.inner:
            check.array(batch.column(at))

    def array(self, array: pa.Array) -> None:
        """Look at an array as it stands, at what is under a null too: there pyruhvro has zeros."""
        if self.kind == "string":
            utf8(array)
        elif self.kind == "int":
            integers(array.field(0) if pa.types.is_struct(array.type) else array)
        elif self.kind == "union" and not pa.types.is_union(array.type):  # null and one more, or one
            for _, check in self.inner:
                check.array(array)
        elif self.kind in ("array", "map"):
            if self.kind == "map":
                utf8(array.keys)
            for _, check in self.inner:
                check.array(array.values if self.kind == "array" else array.items)
        else:
            for at, check in self.inner:
                check.array(array.field(at))


def utf8(array: pa.StringArray) -> None:
    """Raise Malformed unless all text is UTF-8: pyruhvro copies the bytes of a string unseen."""
    data = array.buffers()[2]
    if data is None or not data.size or np.frombuffer(data, np.uint8).max() < 0x80:
        return
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        raise Malformed("a string is not UTF-8") from None


def integers(array: pa.Int64Array) -> None:
    """Raise Malformed unless all numbers are ints: they were read as longs."""
    values = np.frombuffer(array.buffers()[1], np.int64) if len(array) else np.zeros(1, np.int64)
    if not (values.min() >= -INT and values.max() < INT):
        raise Malformed("a number takes more than 32 bits")
