"""Scoring of dataframes: tables of anybody's making in, plain columns out.

A mapping of columns, a pyarrow Table or a pandas DataFrame, known by what they offer and never imported, becomes an
`EventTable`; scores become `Answers`. The scores are those of the stream, bit for bit. Only this way in and out walks
over rows in Python, for strings.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from muse_stream.scoring.answers import Answers
from muse_stream.scoring.columns import Categorical, Column, text_of
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.sampling import ID_BYTES
from muse_stream.scoring.scores import Scored


class ArrowTable(Protocol):
    """What is used of a `pyarrow.Table`."""

    @property
    def column_names(self) -> list[str]:
        """Names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


class DataFrame(Protocol):
    """What is used of a `pandas.DataFrame`."""

    def keys(self) -> Iterable[Any]:
        """Names of its columns."""

    def __getitem__(self, name: str, /) -> Any: ...


Table: TypeAlias = Mapping[str, ArrayLike | None] | ArrowTable | DataFrame
"""What can be scored: columns by name. In a mapping, a scalar or None stands for every row."""


class Wanted(Struct, frozen=True):
    """What a snapshot reads from a table."""

    tenants: frozenset[str]
    """The tenants there are."""
    fields: frozenset[str]
    """Dotted feature fields."""
    texts: frozenset[str]
    """Those of them that a category table reads."""
    attributes: tuple[str, ...]
    needs_ids: bool


def event_table(table: Table, asked: Wanted) -> EventTable:
    """Build the batch. Raises ValueError for columns that are missing or differ in length, and for unknown tenants."""
    listed: Any = getattr(table, "column_names", None) or getattr(table, "keys", None)
    if listed is None:
        raise ValueError(f"a table is a mapping of columns, a pyarrow Table or a DataFrame, not {type(table).__name__}")
    names = set(listed() if callable(listed) else listed)
    text, numbers = ["tenant", *asked.attributes], sorted(asked.fields)
    wanted = dict.fromkeys([*text, *numbers, *(["id"] if asked.needs_ids else [])])
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ValueError(f"the table has no column {', '.join(missing)}")
    exact = {*text, *asked.texts, "id"}
    columns = {name: _array(table[name], exact=name in exact) for name in wanted}
    sizes = {name: len(column) for name, column in columns.items() if column.ndim}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"columns differ in length: {', '.join(f'{name} {size}' for name, size in sizes.items())}")
    rows = next(iter(sizes.values()), 1)
    wide = {name: np.broadcast_to(column, rows) for name, column in columns.items()}
    return EventTable(
        rows,
        _tenants(wide["tenant"], asked.tenants),
        {name: _strings(wide[name]) for name in text[1:]},
        {name: _feature(wide[name], text=name in asked.texts) for name in numbers},
        _ids(wide["id"]) if asked.needs_ids else None,
    )


def answers(scored: Scored, rows: int, shadows: Iterable[str]) -> Answers:
    """Spread the answers of each predictor over all rows; every shadow predictor has its column, even an empty one."""
    columns: dict[str, NDArray[Any]] = {
        "score": np.full(rows, np.nan),
        "aggregate": np.full(rows, np.nan),
        "predictor": np.full(rows, None, dtype=object),
        "predictor_version": np.zeros(rows, dtype=np.int64),
        "error": np.full(rows, None, dtype=object),
        **{f"shadow:{name}": np.full(rows, np.nan) for name in shadows},
    }
    for live in scored.live:
        columns["score"][live.rows] = live.score
        columns["aggregate"][live.rows] = live.aggregate
        columns["predictor"][live.rows] = live.predictor
        columns["predictor_version"][live.rows] = live.version
    for rejected in scored.rejected:
        columns["error"][rejected.row] = f"{rejected.reason}: {rejected.message}"
    for shadow in scored.shadow:
        columns[f"shadow:{shadow.predictor}"][shadow.rows] = shadow.score
    return Answers(columns)


def feature_column(cells: Sequence[Any], *, text: bool) -> Column:
    """Return plain Python values as a column; None is a null. `text`: the feature is read as text."""
    return _feature(np.array(cells), text=text)


def _array(column: Any, *, exact: bool) -> NDArray[Any]:
    """Return a column as numpy has it; `exact` keeps whole numbers beside nulls, which numpy would make floats."""
    if hasattr(column, "to_pylist"):  # Arrow, which otherwise refuses to copy what has nulls
        if exact and column.null_count:
            return np.array(column.to_pylist(), dtype=object)
        return np.asarray(column.to_numpy(zero_copy_only=False))
    return np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)


def _tenants(column: NDArray[Any], known: frozenset[str]) -> Categorical:
    # On Kafka these are dead letters; scored, they would get the routes and maps meant for everybody else.
    tenants = _strings(column)
    strangers = [name for name in dict.fromkeys(tenants.to_list()) if name not in known]
    if strangers:
        raise ValueError(f"there is no tenant {strangers[0]!r}; there is: {', '.join(sorted(known))}")
    return tenants


def _ids(column: NDArray[Any]) -> NDArray[np.bytes_]:
    ids = ["" if _is_null(one) else text_of(one) for one in column.tolist()]
    return np.array([one.encode()[:ID_BYTES] for one in ids], dtype=np.bytes_)


def _strings(column: NDArray[Any]) -> Categorical:
    return Categorical.from_strings(None if _is_null(one) else text_of(one) for one in column.tolist())


def _is_null(value: object) -> bool:
    # pandas writes a missing string as None, NaN or its own NA, which compares to nothing: known by its type's name
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _feature(column: NDArray[Any], *, text: bool) -> Column:
    if text and all(map(_is_null, column.tolist())):
        return _strings(column)  # a column of nulls does not tell what it is a column of
    if column.dtype.kind in "fiub":
        return column.astype(np.float64) if column.dtype.kind == "f" else column
    cells = column.tolist()
    known: Mapping[int, Any] = {row: cell for row, cell in enumerate(cells) if not _is_null(cell)}
    whole = text and all(isinstance(cell, int) for cell in known.values())  # a float64 does not tell all of them apart
    if whole or any(isinstance(cell, str) for cell in known.values()):
        return _strings(column)
    return np.array([float(known[row]) if row in known else np.nan for row in range(len(cells))], dtype=np.float64)
