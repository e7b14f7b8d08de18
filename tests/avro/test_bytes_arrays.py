"""Bytes as numbers and texts: the same as one by one."""

import random
import struct
from uuid import UUID

import pyarrow as pa
import pytest

from muse_stream.avro.bytes_arrays import hexadecimal, uuids
from muse_stream.avro.conversion import convert, decimal_number
from muse_stream.avro.resolution import Case

EDGES = [0, 1, -1, 127, -128, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63), 2**64, 10**40, -(10**400)]


@pytest.mark.parametrize("scale", [0, 1, 2, 9, 22, 23, 400])
def test_decimals_have_the_same_bits_as_one_by_one(scale: int) -> None:
    rng = random.Random(scale)
    numbers = EDGES + [rng.getrandbits(rng.randrange(1, 90)) * rng.choice((1, -1)) for _ in range(500)]
    data: list[bytes | None] = [b"", None, b"\xff", b"\0" * 40, b"\x80" + b"\0" * 7]
    for number in numbers:
        least = number.bit_length() // 8 + 1
        data += [number.to_bytes(least + more, "big", signed=True) for more in (0, 3, 40)]
    array, refused = convert(Case("x", "number", "bytes", form="decimal", scale=scale), pa.array(data, pa.binary()))
    expected = [None if one is None else decimal_number(one, scale) for one in data]
    assert refused is None
    found = [None if one is None else struct.pack("<d", one) for one in array.to_pylist()]
    assert found == [None if one is None else struct.pack("<d", one) for one in expected]


def test_texts_of_bytes_of_a_part_of_an_array() -> None:
    rng = random.Random(1)
    data = [None if rng.random() < 0.2 else rng.randbytes(16) for _ in range(100)]
    part = pa.array(data, pa.binary()).slice(7, 50)
    assert uuids(part).to_pylist() == [one and str(UUID(bytes=one)) for one in data[7:57]]
    assert hexadecimal(part).to_pylist() == [one and one.hex() for one in data[7:57]]
    assert uuids(pa.array([], pa.binary())).to_pylist() == []
