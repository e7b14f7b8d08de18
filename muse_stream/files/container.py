"""Rows of an Avro container, with what their schema says of them.

The container's own schema and its blocks give Python values: times as counted, decimals exact, and in a union of
several types a `Branch` that says which one was written. fastavro reads the blocks, and each record by a schema of the
same bytes that has no logical types (its own times end with the year 9999) and a record of one field around each branch
(the type of a value does not tell two branches apart).
"""

import zlib
from collections.abc import Callable, Iterator
from decimal import Decimal
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
from fastavro.read import BLOCK_READERS

from muse_stream.avro import Type, parse_schema
from muse_stream.errors import MuseError
from muse_stream.files.rows import UNITS
from muse_stream.files.values import Branch, Date, Single, TimeOfDay, Timestamp, scaled

Convert = Callable[[Any], Any]
SNAPPY_RATIO = 32
"""Bytes that a byte of snappy makes at most: 64 of three, a little less than that."""


def container_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield number (from 1) and value of each record; raises MuseError where the file is none, or is damaged."""
    number = 0
    with path.open("rb") as file:
        try:
            blocks = fastavro.block_reader(file)
            text = str(blocks.metadata["avro.schema"])
        except Exception as error:  # noqa: BLE001 - fastavro raises whatever its readers happen to
            raise MuseError(f"{path}: not an Avro container: {_said(error)}") from None
        schema = parse_schema(text, file=f"{path}: the schema in it")
        document: Any = fastavro.parse_schema(_marked(schema.type, count()))
        convert = _converter(schema.type)
        try:
            block: Any  # fastavro's types leave out `bytes_`, the block's records as they are written
            for block in blocks:
                for _ in range(block.num_records):
                    record = fastavro.schemaless_reader(block.bytes_, document, None)
                    number += 1
                    yield number, convert(record) if convert else record
                if block.bytes_.read(1):
                    raise ValueError("a block has bytes left over")
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: BLE001
            raise MuseError(f"{path}: cannot be read after row {number}: {_said(error)}") from None


def _block(file: Any) -> bytes:
    data: Any = fastavro.schemaless_reader(file, "bytes", None)
    return bytes(data)


def _snappy(file: Any) -> BytesIO:
    """Read a block: its size as snappy has it (seven bits to a byte), snappy, and the CRC-32 of what was packed."""
    block = _block(file)
    packed, crc = block[:-4], block[-4:]
    size, at = 0, 0
    while at < min(len(packed), 5):
        size |= (packed[at] & 0x7F) << (7 * at)
        at += 1
        if packed[at - 1] < 0x80:
            break
    if size > SNAPPY_RATIO * len(packed):
        raise ValueError("a snappy block that announces more than it can hold")
    data: bytes = pa.decompress(packed, size, codec="snappy", asbytes=True)
    if zlib.crc32(data).to_bytes(4, "big") != crc:
        raise ValueError("a snappy block with another checksum than its own")
    return BytesIO(data)


def _zstandard(file: Any) -> BytesIO:
    return BytesIO(pa.CompressedInputStream(pa.BufferReader(_block(file)), "zstd").read())


# Java and Spark write snappy, or zstandard; fastavro would need a library for each, and Arrow has them
BLOCK_READERS.update(snappy=_snappy, zstandard=_zstandard)


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__


def _marked(node: Type, numbers: Iterator[int]) -> Any:
    """Return schema JSON of the same bytes, without logical types, each branch of several inside a record."""
    if node.kind == "union":
        branches: list[Any] = [_marked(branch, numbers) for branch in node.branches]
        return branches if _single(node) else [_boxed(one, place, numbers) for place, one in enumerate(branches)]
    if node.kind in ("array", "map"):
        key = "items" if node.kind == "array" else "values"
        return {"type": node.kind, key: _marked(node.items or Type("null"), numbers)}
    if node.kind not in ("record", "enum", "fixed"):
        return node.kind
    named: dict[str, Any] = {"type": node.kind, "name": f"T{next(numbers)}"}
    if node.kind == "enum":
        return {**named, "symbols": list(node.symbols)}
    if node.kind == "fixed":
        return {**named, "size": node.size}
    return {**named, "fields": [{"name": one.name, "type": _marked(one.type, numbers)} for one in node.fields]}


def _boxed(branch: Any, place: int, numbers: Iterator[int]) -> Any:
    if branch == "null":
        return branch
    return {"type": "record", "name": f"B{next(numbers)}", "fields": [{"name": f"b{place}", "type": branch}]}


def _single(node: Type) -> bool:
    return sum(branch.kind != "null" for branch in node.branches) < 2


def _converter(node: Type) -> Convert | None:
    """Return what makes a value of what fastavro read; None where it is the value already."""
    if node.kind == "record":
        parts = {one.name: convert for one in node.fields if (convert := _converter(one.type)) is not None}
        return (lambda row: row | {name: convert(row[name]) for name, convert in parts.items()}) if parts else None
    if node.kind == "union":
        return _of_union(node)
    if node.items is not None:
        inner = _converter(node.items)
        if inner is None:
            return None
        if node.kind == "array":
            return lambda items: [inner(item) for item in items]
        return lambda items: {key: inner(item) for key, item in items.items()}
    return _logical(node)


def _of_union(node: Type) -> Convert | None:
    inner = [_converter(branch) for branch in node.branches]
    if _single(node):
        convert = next((one for one in inner if one is not None), None)
        return (lambda value: None if value is None else convert(value)) if convert else None
    known = {
        f"b{place}": (branch.kind, branch.full_name, convert)
        for place, (branch, convert) in enumerate(zip(node.branches, inner, strict=True))
    }

    def branch(value: Any) -> Any:
        if value is None:
            return None
        ((name, held),) = value.items()
        kind, full_name, convert = known[name]
        return Branch(kind, full_name, convert(held) if convert else held)

    return branch


def _logical(node: Type) -> Convert | None:
    logical, scale = node.logical or "", node.scale
    unit = UNITS.get(logical.rsplit("-", 1)[-1], 0)
    zoned = not logical.startswith("local-")
    if logical == "decimal":
        return lambda value: scaled(Decimal(int.from_bytes(value, "big", signed=True)), -scale)
    if logical == "uuid":
        return (lambda value: UUID(bytes=value)) if node.kind == "fixed" and node.size == 16 else None
    if logical == "date":
        return Date
    if node.kind == "float":
        return Single
    if logical.startswith("time-"):
        return lambda value: TimeOfDay(value * unit)
    return (lambda value: Timestamp(value * unit, zoned)) if unit else None
