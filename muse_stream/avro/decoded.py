"""A decoded batch, and how parts of one are put together.

A piece holds the rows of one writer schema, as Arrow arrays in the order of the reader's paths; pieces become one
`Decoded`, whose rows ascend whatever the pieces were. No loop runs over events.
"""

import dataclasses
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.avro.arrow_columns import NO_TIME, categorical, finish, milliseconds, texts
from muse_stream.avro.conversion import ARROW
from muse_stream.avro.resolution import Domain, Use, column_type
from muse_stream.avro.times import TimeUnit
from muse_stream.avro.types import Type
from muse_stream.errors import Rejected, SchemaError
from muse_stream.scoring import ID_BYTES, Categorical, Column

TEXT_OF = "text:"
"""Before a path, the name of a column that has the text of what is no text; no Avro name has a colon."""
TextColumn: TypeAlias = pa.StringArray
"""A column of texts with nulls."""


class Fields(Struct, frozen=True):
    """What to take from an event, as dotted paths in the reader's schema."""

    id: str
    time: str | None = None
    tenant: str | None = None
    columns: tuple[str, ...] = ()
    """Read as values: numbers; text where the schema has text."""
    texts: tuple[str, ...] = ()
    """Read as text, whatever the schema has: docs/avro.md says which."""
    time_unit: TimeUnit = "ms"
    """What a time without a logical type counts, since 1970."""


class Part(Struct, frozen=True):
    """One way to read one field."""

    path: str
    use: Use
    domain: Domain
    nullable: bool
    """The column may hold nulls; an integer or boolean column is then float64."""


class Plan(Struct, frozen=True):
    """All that is read of an event."""

    fields: Fields
    parts: tuple[Part, ...]
    """Each once, the id first."""
    columns: tuple[tuple[str, int], ...]
    """Which part each column of values is..."""
    texts: tuple[tuple[str, int], ...]
    """...and each of texts that is not a column of values too."""
    time: int | None
    tenant: int | None

    @classmethod
    def of(cls, reader: Type, fields: Fields) -> "Plan":
        """Raises SchemaError when a field is not there, or of a type that cannot be read so."""
        uses: list[tuple[str, Use]] = [(fields.id, "text")]
        uses += [(fields.time, "time")] if fields.time else []
        uses += [(path, "text") for path in (fields.tenant, *fields.texts) if path]
        uses += [(path, "value") for path in fields.columns]
        parts = {_part(reader, path, use): None for path, use in uses}
        _check_names(reader, "id", fields.id)
        _check_names(reader, "tenant", fields.tenant)
        found = tuple(parts)
        columns = {path: _place(found, path, "value") for path in fields.columns}
        texts = {_name_of_text(found, path): _place(found, path, "text") for path in fields.texts}
        return cls(
            fields,
            found,
            tuple(columns.items()),
            tuple((name, place) for name, place in texts.items() if name not in columns),
            _place(found, fields.time, "time") if fields.time else None,
            _place(found, fields.tenant, "text") if fields.tenant else None,
        )

    def name_of_text(self, path: str) -> str:
        """Return the column that has a field as text: the field's own where it is text."""
        return _name_of_text(self.parts, path)


def _place(parts: Sequence[Part], path: str, use: Use) -> int:
    """Return which part reads a field so; where it is text, its value is its text."""
    wanted = [(path, use)] if use != "text" else [(path, "text"), (path, "value")]
    return next(
        place
        for place, part in enumerate(parts)
        if (part.path, part.use) in wanted and (part.use == use or part.domain == "text")
    )


def _name_of_text(parts: Sequence[Part], path: str) -> str:
    part = parts[_place(parts, path, "text")]
    return path if part.use == "value" else TEXT_OF + path


def _check_names(reader: Type, role: str, path: str | None) -> None:
    _, _, leaf = column_type(reader, path, "text") if path else ("", False, reader)
    real = [option.kind for option in leaf.options if option.kind in ("float", "double")]
    if real:
        raise SchemaError(f"{path}: the {role} must be a string, a whole number or bytes; a {real[0]} names nothing")


def _part(reader: Type, path: str, use: Use) -> Part:
    if use == "text":
        try:
            domain, nullable, _ = column_type(reader, path)
            if domain == "text":
                return Part(path, "value", domain, nullable)
        except SchemaError:
            pass  # a union of text and numbers, which has texts alone; or what the next line raises
    domain, nullable, _ = column_type(reader, path, use)
    return Part(path, use, domain, nullable)


Piece: TypeAlias = tuple[NDArray[np.int64], list[pa.Array]]
"""Some rows of a batch, and for each part of the plan their values, each array of `ARROW[domain]`."""


class Decoded(Struct, frozen=True, eq=False):
    """What was read from a batch of values; `rows` and `rejected` together name each value once."""

    rows: NDArray[np.int64]
    """Index into the values, ascending."""
    ids: TextColumn
    """Null where the event has none, or an empty one."""
    times: NDArray[np.int64] | None
    """Milliseconds since 1970; `NO_TIME` where the event has none; None if no time field was asked for."""
    columns: dict[str, Column]
    """By path; texts of what is none by `Decoder.name_of_text`."""
    rejected: tuple[Rejected, ...]
    """`row` is an index into the values; ascending."""
    tenants: Categorical | None = None
    """None if no tenant field was asked for."""

    def renumbered(self, index: NDArray[np.int64]) -> "Decoded":
        """Return the same with every row number `r` replaced by `index[r]`: from a part of a batch to the batch."""
        rejected = tuple(dataclasses.replace(one, row=int(index[one.row])) for one in self.rejected)
        return replace(self, rows=index[self.rows], rejected=rejected)


def assemble(pieces: Sequence[Piece], rejected: list[Rejected], plan: Plan) -> Decoded:
    """Join pieces of one reader into its `Decoded`; their arrays are in the order of the plan's parts."""
    rows, arrays = _join(pieces, [ARROW[part.domain] for part in plan.parts])
    parts = plan.parts
    columns: dict[str, Column] = {
        path: finish(arrays[place], parts[place].domain, parts[place].nullable) for path, place in plan.columns
    }
    columns |= {name: categorical(arrays[place]) for name, place in plan.texts}
    return Decoded(
        rows=rows,
        ids=texts(arrays[0]),
        times=None if plan.time is None else milliseconds(arrays[plan.time]),
        columns=columns,
        rejected=tuple(sorted(rejected, key=lambda one: one.row)),
        tenants=None if plan.tenant is None else categorical(arrays[plan.tenant]),
    )


def _join(pieces: Sequence[Piece], kinds: list[pa.DataType]) -> tuple[NDArray[np.int64], list[pa.Array]]:
    if not pieces:
        return np.zeros(0, dtype=np.int64), [pa.array([], kind) for kind in kinds]
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate([rows for rows, _ in pieces])
    arrays = [pa.concat_arrays(parts) for parts in zip(*(arrays for _, arrays in pieces), strict=True)]
    if (np.diff(rows) < 0).any():
        order = np.argsort(rows, kind="stable")
        rows, taken = rows[order], pa.array(order)
        arrays = [array.take(taken) for array in arrays]
    return rows, arrays


def concat(pieces: Sequence[Decoded]) -> Decoded:
    """Join decoded parts of one batch whose rows are already numbered alike (see `Decoded.renumbered`).

    Columns need not agree: a part without a column has nulls there. Raises SchemaError when a column is text in one
    part and a number in another.
    """
    if len(pieces) == 1:
        return pieces[0]
    rows = np.concatenate([piece.rows for piece in pieces]) if pieces else np.zeros(0, dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    lengths = [len(piece.rows) for piece in pieces]
    names = list(dict.fromkeys(name for piece in pieces for name in piece.columns))
    columns = {name: _stack(name, [piece.columns.get(name) for piece in pieces], lengths, order) for name in names}
    ids = pa.concat_arrays([piece.ids for piece in pieces]) if pieces else pa.array([], pa.string())
    times = [
        np.full(n, NO_TIME) if piece.times is None else piece.times for piece, n in zip(pieces, lengths, strict=True)
    ]
    timed, named = (any(part is not None for part in found) for found in _optional(pieces))
    tenants = _stack("tenant", [piece.tenants for piece in pieces], lengths, order) if named else None
    return Decoded(
        rows=rows[order],
        ids=ids.take(pa.array(order)),
        times=np.concatenate(times)[order] if timed else None,
        columns=columns,
        rejected=tuple(sorted((one for piece in pieces for one in piece.rejected), key=lambda one: one.row)),
        tenants=tenants if isinstance(tenants, Categorical) else None,
    )


def _optional(pieces: Sequence[Decoded]) -> tuple[list[object], list[object]]:
    return [piece.times for piece in pieces], [piece.tenants for piece in pieces]


def _stack(name: str, parts: list[Column | None], lengths: list[int], order: NDArray[np.int64]) -> Column:
    present = [part for part in parts if part is not None]
    if any(isinstance(part, Categorical) for part in present):
        if not all(isinstance(part, Categorical) for part in present):
            raise SchemaError(f"{name}: text in one event format, a number in another; give one of them another name")
        return _stack_text(parts, lengths, order)
    filled = [np.full(n, np.nan) if part is None else part for part, n in zip(parts, lengths, strict=True)]
    stacked: NDArray[np.float64] = np.concatenate([part for part in filled if not isinstance(part, Categorical)])
    return stacked[order]


def _stack_text(parts: list[Column | None], lengths: list[int], order: NDArray[np.int64]) -> Categorical:
    values: dict[str | None, int] = {}
    codes = []
    for part, length in zip(parts, lengths, strict=True):
        if not isinstance(part, Categorical):
            codes.append(np.full(length, -1, dtype=np.int32))
            continue
        places = [-1 if text is None else values.setdefault(text, len(values)) for text in part.values]
        codes.append(np.array([*places, -1], dtype=np.int32)[part.codes])  # code -1 finds the last place
    return Categorical(tuple(values), np.concatenate(codes)[order])


def fixed_width(ids: TextColumn) -> NDArray[np.bytes_]:
    """Return ids as one 'S' array (UTF-8, cut at 256 bytes; null is empty), without a loop over ids."""
    ids = pc.fill_null(ids, "") if ids.null_count else ids
    if not len(ids):
        return np.zeros(0, dtype="S1")
    _, offset_bytes, data_bytes = ids.buffers()
    offsets = np.frombuffer(offset_bytes, np.int32)[ids.offset : ids.offset + len(ids) + 1].astype(np.int64)
    data = np.frombuffer(data_bytes, np.uint8) if data_bytes is not None else np.zeros(0, np.uint8)
    lengths = np.minimum(np.diff(offsets), ID_BYTES)
    width = max(int(lengths.max()), 1)
    inside = np.arange(width) < lengths[:, None]
    padded = np.zeros((len(ids), width), np.uint8)
    padded[inside] = data[(offsets[:-1, None] + np.arange(width))[inside]]
    return padded.view(f"S{width}").ravel()
