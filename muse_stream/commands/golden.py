"""Write a model's golden events from the trainer's own predictions, and say whether the model agrees with them.

A configuration, the name of one of its models, and a table with the fields of the events and a column of predicted
scores give the JSON file that `golden` of the model names. Chosen are rows over the whole range of scores, and first
those that hold something missing.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from muse_stream.commands.configuration import open_configuration
from muse_stream.config import ModelSpec
from muse_stream.errors import ConfigError, MuseError, Problem
from muse_stream.files import read_rows
from muse_stream.models import Agreement, ModelCache, agreement, read_golden
from muse_stream.runtime.compile import load_model_of
from muse_stream.scoring import found, tensors_of

ROWS = 500
"""Enough to meet every branch of a table of categories, and a file that a person can look at."""
TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and how the model compares."""

    file: Path
    agreement: Agreement
    tolerance: float
    allowed: int
    """How many rows may differ, by the configuration."""

    @property
    def agrees(self) -> bool:
        """Whether `check` would accept the file."""
        return self.agreement.differing <= self.allowed


def write_golden(
    config: str | Path,
    name: str,
    table: Path,
    column: str,
    output: Path,
    *,
    rows: int = ROWS,
    columns: Mapping[str, str] | None = None,
) -> Written:
    """Write golden events of model `name` to `output`, at most `rows` of those in `table`.

    `column` holds the scores; `columns` names columns of the table for fields, where they differ. Raises MuseError.
    """
    configuration = open_configuration(config)
    document, root = configuration.loaded.document, configuration.loaded.root
    spec = document.models.get(name)
    if spec is None:
        hint = f"there is: {', '.join(document.models)}"
        raise ConfigError([Problem("models", f"there is no model '{name}'", hint, file=str(configuration.path))])
    model = load_model_of(root, spec, ModelCache(), document.limits.model_bytes)
    events, scores = _events(table, spec, column, columns or {})
    chosen = _chosen(events, scores, rows)
    content = {"events": [events[row] for row in chosen], "scores": [scores[row] for row in chosen]}
    data = (json.dumps(content, allow_nan=False) + "\n").encode()
    tolerance = spec.golden.tolerance if spec.golden else TOLERANCE
    found_out = agreement(model, read_golden(data), tensors_of(document, name, model), tolerance)
    output.write_bytes(data)
    allowed = int(spec.golden.differing * found_out.rows) if spec.golden else 0
    return Written(output, found_out, tolerance, allowed)


def _events(
    table: Path, spec: ModelSpec, column: str, columns: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[float]]:
    rows = read_rows(table)
    fields = list(dict.fromkeys(feature.field for feature in spec.features()))
    absent = [
        name
        for name in (*(columns.get(field, field) for field in fields), column)
        if not any(_has(row, name) for row in rows)
    ]
    if absent:
        there = ", ".join(list(rows[0])[:20]) if rows else "no row"
        raise MuseError(f"{table}: has no column {', '.join(absent)}; there is: {there} (--field FIELD=COLUMN renames)")
    scores = [_score(table, number, found(row, column)) for number, row in enumerate(rows)]
    events = [
        {field: _value(table, number, field, found(row, columns.get(field, field))) for field in fields}
        for number, row in enumerate(rows)
    ]
    return events, scores


def _has(row: Mapping[str, Any], name: str) -> bool:
    head, dot, rest = name.partition(".")
    inner = row.get(head)
    return name in row or bool(dot and isinstance(inner, Mapping) and _has(inner, rest))


def _score(table: Path, number: int, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0:
        raise MuseError(f"{table}: row {number}: the score {value!r} is no probability in [0, 1]")
    return float(value)


def _value(table: Path, number: int, field: str, value: Any) -> Any:
    """Return a feature as JSON has it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and np.isfinite(value):
        return value
    raise MuseError(f"{table}: row {number}: {field} is {value!r}, neither a finite number nor a text")


def _chosen(events: Sequence[Mapping[str, Any]], scores: Sequence[float], most: int) -> list[int]:
    """Return rows evenly over the order of scores; a quarter of them with missing values, if there are such."""
    order = np.argsort(np.array(scores), kind="stable").tolist()
    missing = [row for row in order if None in events[row].values()]
    complete = [row for row in order if None not in events[row].values()]
    some = _evenly(missing, max(most // 4, most - len(complete)))
    return sorted([*some, *_evenly(complete, most - len(some))])


def _evenly(rows: Sequence[int], most: int) -> list[int]:
    if len(rows) <= most:
        return list(rows)
    return [rows[place] for place in np.unique(np.linspace(0, len(rows) - 1, most).round().astype(int)).tolist()]
