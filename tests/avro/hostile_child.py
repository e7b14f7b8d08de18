"""The process that is allowed to die: decodes whatever it is given, by every way there is, and compares.

Takes one job a line on stdin, {"schema", "seed", "rows"} or {"schema", "parts", "copies"}. Answers with one JSON line,
{"failed": why or null, ...}; with "alone" a line "at HEX" before each payload, so that it is known when the process is
dead. A job that hangs ends it, with a traceback on stderr, where nothing else is ever written.
"""

import copy
import faulthandler
import json
import random
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID

from muse_stream.avro import Decoded, Decoder, Fields, Schema, decode_records, parse_schema
from muse_stream.avro import codec as codec_module
from muse_stream.avro.codec import codec_for
from muse_stream.avro.framing import confluent_prefix
from muse_stream.avro.memory import Memory
from muse_stream.avro.resolution import column_type
from muse_stream.avro.strict import Malformed
from muse_stream.errors import Reason, SchemaError
from tests.avro.avro_data import column_paths, directory, listed, record_by_record
from tests.avro.hostile_data import Rng, damage, record_of

FRAME = confluent_prefix(1)
HANGS_AFTER_S = 60
MOST_ADDRESSES = 16 << 30
LENIENT = ("a number takes more than", "items are announced", "block's size is negative")
"""What is refused record by record and may pass in a batch, harmlessly: it stands in no column."""

Row = tuple[Any, ...]


class Failed(AssertionError):
    """What the parent is told."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESSES, MOST_ADDRESSES))
    for line in sys.stdin:
        faulthandler.dump_traceback_later(HANGS_AFTER_S, exit=True)
        job = json.loads(line)
        answer = inflate(**job) if "parts" in job else run(**job)
        faulthandler.cancel_dump_traceback_later()
        answer["rss_mb"] = peak_mb()
        print(json.dumps(answer), flush=True)


def peak_mb() -> int:
    """The most memory this process has had; `getrusage` counts what the process that started it had, too."""
    (line,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:")]
    return int(line.split()[1]) // 1024


def run(schema: Any, seed: int, rows: int, alone: bool = False) -> dict[str, Any]:
    """Make the job's records and decode them; `alone` takes them one by one, saying which, and is slow."""
    try:
        writer = parse_schema(json.dumps(schema), file="writer.avsc")
    except SchemaError as error:
        return {"failed": None, "refused": str(error)}
    rng = random.Random(seed)
    codec_module.LEAST = (1, 1000)[seed % 2]  # type: ignore[attr-defined]  # in one piece, or each alone
    readers = [writer, *another_reader(schema, rng)]
    good = [record_of(writer.type, rng) for _ in range(rows)]
    bad = [damage(data, rng) for data, _ in good]
    try:
        for reader in readers:
            if alone:
                for one, other in zip(good, bad, strict=True):
                    print("at", one[0].hex(), flush=True)
                    try_all(writer, reader, [one], [])
                    print("at", other.hex(), flush=True)
                    try_all(writer, reader, [], [other])
            else:
                try_all(writer, reader, good, bad)
    except SchemaError as error:  # the writer's own schema has no id, or its id is no column
        return {"failed": None, "refused": str(error)}
    except Failed as error:
        return {"failed": str(error)}
    except Exception as error:  # noqa: BLE001 - the very thing that must not happen
        return {"failed": f"raised {type(error).__name__}: {error}"}
    return {"failed": None, "batched": codec_for(writer).batched}


def inflate(schema: Any, parts: list[tuple[str, int]], copies: int, alone: bool = False) -> dict[str, Any]:
    """Decode copies of one payload, given as (hex, how often) so that it can be large; says what became of them."""
    writer = parse_schema(json.dumps(schema), file="writer.avsc")
    value = FRAME + b"".join(bytes.fromhex(data) * times for data, times in parts)
    decoder = Decoder(directory(writer, ids={1: writer}), writer, Fields("id", columns=column_paths(writer)))
    decoded = decoder.decode([value] * (1 if alone else copies))
    why = sorted({one.message for one in decoded.rejected})
    return {"failed": None, "batched": codec_for(writer).batched, "read": len(decoded.rows), "why": why}


def try_all(writer: Schema, reader: Schema, good: list[tuple[bytes, Any]], bad: list[bytes]) -> None:
    """Decode good records, then good and bad ones in turn: what is read is what was written, by every way."""
    paths = column_paths(reader)
    decoder = Decoder(directory(writer, reader, ids={1: writer}), reader, Fields("id", columns=paths))
    codec = codec_for(writer)
    for data in bad if codec.batched else ():
        with suppress(Malformed):  # in a batch most are left to the record decoder, unseen by this one
            taken = codec.batch([data])[0].nbytes
            if taken > Memory.of(writer.type).needed(1, len(data)):
                raise Failed(f"{taken} bytes of Arrow, beyond the bound")
    means = [expected(writer, paths, record) for _, record in good] if reader is writer else None
    payloads = [data for data, _ in good]
    for step, values in (
        (1, payloads),
        (2, [data for pair in zip(payloads, bad, strict=False) for data in pair] or bad),
    ):
        fast, slow = both(decoder, writer, values)
        compare(fast, slow)
        read = rows_of(fast)
        for row, meaning in enumerate(means or ()):
            if step * row < len(values) and read.get(step * row) != meaning:
                raise Failed(f"{read.get(step * row)} was read, {meaning} was written")


def both(decoder: Decoder, writer: Schema, payloads: list[bytes]) -> tuple[Decoded, Decoded]:
    values = [FRAME + data for data in payloads]
    fast = decoder.decode(values)
    with record_by_record(writer):
        slow = decoder.decode(values)
    decode_records(directory(writer, ids={1: writer}), values)
    for decoded in (fast, slow):
        refused = [one.row for one in decoded.rejected]
        if sorted([*decoded.rows.tolist(), *refused]) != list(range(len(values))):
            raise Failed("not every value has one answer")
        if {one.reason for one in decoded.rejected} - {Reason.UNDECODABLE}:
            raise Failed(f"rejected for another reason: {decoded.rejected}")
    return fast, slow


def compare(fast: Decoded, slow: Decoded) -> None:
    quick, sure = rows_of(fast), rows_of(slow)
    for row, read in sure.items():
        if quick.get(row) != read:
            raise Failed(f"by columns {quick.get(row)}, record by record {read}")
    why = {one.row: one.message for one in slow.rejected}
    for row in quick.keys() - sure.keys():
        if not any(word in why[row] for word in LENIENT):
            raise Failed(f"read by columns; record by record refused: {why[row]}")


def rows_of(decoded: Decoded) -> dict[int, Row]:
    columns = [decoded.ids.to_pylist(), *(listed(column) for column in decoded.columns.values())]
    return dict(zip(decoded.rows.tolist(), zip(*columns, strict=True), strict=True))


def expected(schema: Schema, paths: tuple[str, ...], record: Any) -> Row:
    """What a record means, by the rules and not by the code."""
    columns = (_meaning(schema, path, record) for path in paths)
    found = record["id"][1]
    identity = str(found) if isinstance(found, int) else found or None  # an id is text, whatever its type
    return (identity, *(None if value != value else value for value in columns))  # noqa: PLR0124 - NaN


def _meaning(schema: Schema, path: str, record: Any) -> Any:
    domain, nullable, leaf = column_type(schema.type, path)
    branch, value = 0, record
    for name in path.split("."):
        if value is None:
            return None
        branch, value = value[name]
    if value is None:
        return None
    wrote = leaf.options[branch]
    if wrote.logical == "decimal":
        return int.from_bytes(value, "big", signed=True) / 10**wrote.scale
    if isinstance(value, bytes):
        value = str(UUID(bytes=value)) if wrote.logical == "uuid" else value.hex()
    return value if domain == "text" or not (domain == "number" or nullable) else float(value)


def another_reader(document: Any, rng: Rng) -> list[Schema]:
    """The schema as a reader a year older or younger has it: nulls come and go, numbers get wider, fields are added."""
    changed = copy.deepcopy(document)
    for record in _records(changed):
        for field in record["fields"]:
            field["type"] = _changed(field["type"], rng) if field["name"] != "id" else "string"
        if rng.random() < 0.5:
            default = rng.choice((None, 3))
            record["fields"].append({"name": "added", "type": ["null", "int"], "default": default})
    try:
        reader = parse_schema(json.dumps(changed), file="reader.avsc")
        Decoder(directory(reader), reader, Fields("id", columns=column_paths(reader)))
    except SchemaError:
        return []
    return [reader]


def _records(schema: Any) -> list[Any]:
    inner = schema if isinstance(schema, list) else list(schema.values()) if isinstance(schema, dict) else []
    found = [schema] if isinstance(schema, dict) and schema.get("type") == "record" and "fields" in schema else []
    return found + [record for part in inner for record in _records(part)]


def _changed(kind: Any, rng: Rng) -> Any:
    if rng.random() < 0.5:
        return kind
    if isinstance(kind, list):
        fewer = [one for one in kind if one != "null"]
        return fewer[0] if len(fewer) == 1 else fewer or kind
    wider = {"int": "long", "long": "double", "float": "double"}.get(kind) if isinstance(kind, str) else None
    return wider if wider and rng.random() < 0.5 else ["null", kind]


if __name__ == "__main__":
    main()
