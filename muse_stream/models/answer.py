"""From what a file answers to a probability: the columns that count, the link or scale, and where float error ends.

`columns_of` finds the columns once, when the model is loaded; `Reading.probability` is the hot path's part.

Invariant: elementwise, and sums over columns in their order, so that a row's answer depends on that row alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.config import ClassChoice, ColumnOf, LabelOf
from muse_stream.errors import ModelError
from muse_stream.models.labels import Classes, Labels, fitting

FLOAT_ERROR = {"float16": 4e-3, "float": 1e-5, "double": 1e-9}
"""How far outside [0, 1] an answer may lie and still be a probability, by the type it is computed in: a forest of 1,000
trees that all say 1 adds 1,000 times the float nearest to 0.001. The bound is that of sums of some thousand terms."""

KNOWN = (("0", "1"), ("-1", "1"), ("False", "True"))
"""Two classes of which the second is the positive one, as everybody writes them."""


class Reading(Struct, frozen=True):
    """How one output is read."""

    columns: tuple[int, ...]
    link: str | None
    scale: tuple[float, float] | None

    def probability(self, answer: NDArray[Any]) -> NDArray[np.float64]:
        """Return float64 `[N]` for an output `[N]` or `[N, K]`."""
        table = answer[:, None] if answer.ndim == 1 else answer
        if self.link == "softmax":
            return _softmax(table, self.columns)
        chosen = table[:, self.columns[0]].astype(np.float64)
        for column in self.columns[1:]:
            chosen += table[:, column]
        if self.link == "sigmoid":
            with np.errstate(over="ignore"):  # exp of a large number is inf, and 1 / inf is 0, which is right
                return np.asarray(1.0 / (1.0 + np.exp(-chosen)), dtype=np.float64)
        if self.scale is not None:
            zero, one = self.scale
            return np.asarray((chosen - zero) / (one - zero), dtype=np.float64)
        return chosen


def _softmax(table: NDArray[Any], columns: Sequence[int]) -> NDArray[np.float64]:
    margins = [np.ascontiguousarray(table[:, column], dtype=np.float64) for column in range(table.shape[1])]
    highest = margins[0]
    for margin in margins[1:]:
        highest = np.maximum(highest, margin)
    with np.errstate(invalid="ignore"):  # inf - inf: no answer
        powers = [np.exp(margin - highest) for margin in margins]
    total, chosen = np.zeros(len(table)), np.zeros(len(table))
    for column, power in enumerate(powers):
        total += power
        if column in columns:
            chosen += power
    return np.asarray(chosen / total, dtype=np.float64)


def columns_of(
    choices: Sequence[ClassChoice] | None, labels: Labels, columns: int, output: str, *, softmax: bool = False
) -> tuple[int, ...]:
    """Return the columns of an output that are meant; raises ModelError, saying what would be right.

    `columns`: how many there are; `labels`: the classes that the file names.
    """
    if columns == 1:
        return _only_column(choices, fitting(labels, 2), output, softmax=softmax)
    fit = fitting(labels, columns)
    classes = fit[0] if len(fit) == 1 else None
    if choices is None:
        return (_default(classes, fit, columns, output),)
    found = [_column(choice, classes, columns, output) for choice in choices]
    if len(set(found)) < len(found):
        raise ModelError(f"output {output}: positive names column {found[0]} twice")
    return tuple(found)


def _only_column(
    choices: Sequence[ClassChoice] | None, fit: Sequence[Classes], output: str, *, softmax: bool
) -> tuple[int, ...]:
    """Accept the only column; of two named classes it is the second's (a decision function), which may not be meant."""
    if softmax:
        raise ModelError(f"output {output}: a softmax takes a margin for each class, and there is one: link: sigmoid")
    second = fit[0][1] if len(fit) == 1 and tuple(map(str, fit[0])) not in KNOWN else None
    named = [None if isinstance(choice, ColumnOf) else _of_label(choice, fit[0]) for choice in choices or () if fit]
    if second is not None and (choices is None or 0 in named):
        raise ModelError(
            f"output {output}: one column for the classes {', '.join(map(repr, fit[0]))}, by custom the score of the "
            f"second: say `positive: {_written(second)}` if that one is meant, or `positive: {{column: 0}}` for the "
            "column as it is; else train with labels whose order puts the positive class last (0 and 1)"
        )
    for choice in choices or ():
        if second is not None and not isinstance(choice, ColumnOf) and _of_label(choice, fit[0]) == 1:
            continue
        number = choice.column if isinstance(choice, ColumnOf) else choice
        if number != 0:
            raise ModelError(f"output {output}: positive is {_shown(choice)}, it can only be 0: there is one column")
    return (0,)


def _default(classes: Classes | None, fit: Sequence[Classes], columns: int, output: str) -> int:
    """Return the positive column where the configuration names none."""
    if columns == 2 and (not fit or (classes is not None and tuple(map(str, classes)) in KNOWN)):
        return 1
    if classes is not None:
        listed = ", ".join(repr(one) for one in classes)
        raise ModelError(
            f"output {output}: its columns are the classes {listed}; say which is the positive one, for example "
            f"`output: {{name: ..., positive: {_written(classes[0])}}}`"
        )
    what = "the file contradicts itself about its classes" if fit else f"it has {columns} columns"
    raise ModelError(
        f"output {output}: {what}; say which column is the positive class, from 0 to {columns - 1}, for example "
        f"`output: {{name: ..., positive: {{column: {columns - 1}}}}}`"
    )


def _column(choice: ClassChoice, classes: Classes | None, columns: int, output: str) -> int:
    as_label = None if isinstance(choice, ColumnOf) else _of_label(choice, classes)
    number = choice.column if isinstance(choice, ColumnOf) else choice
    as_column = number if isinstance(number, int) and 0 <= number < columns else None
    if as_label is not None and as_column is not None and as_label != as_column:
        assert classes is not None  # noqa: S101  # a label was found among them
        raise ModelError(
            f"output {output}: positive {number} is the label of column {as_label} and the number of the column of "
            f"class {classes[number if isinstance(number, int) else 0]!r}: say `{{label: {number}}}` or "
            f"`{{column: {number}}}`"
        )
    found = as_column if as_label is None else as_label
    if found is None:
        named = "" if classes is None else f", or the label of a class: {', '.join(map(_written, classes))}"
        allowed = "0 or 1" if columns == 2 else f"a column from 0 to {columns - 1}"
        raise ModelError(f"output {output}: positive is {_shown(choice)}, it can only be {allowed}{named}")
    return found


def _of_label(choice: ClassChoice, classes: Classes | None) -> int | None:
    label = str(choice.label if isinstance(choice, LabelOf) else choice)
    matching = [column for column, one in enumerate(classes or ()) if str(one) == label]
    return matching[0] if len(matching) == 1 else None


def _shown(choice: ClassChoice) -> str:
    match choice:
        case ColumnOf(column=column):
            return f"column {column}"
        case LabelOf(label=label):
            return f"label {_written(label)}"
        case _:
            return _written(choice)


def _written(value: str | int) -> str:
    """Return a label as it is written in YAML: in quotes where it would be read as something else."""
    plain = isinstance(value, int) or value.replace("_", "a").replace("-", "a").isalpha()
    return str(value) if plain and str(value).lower() not in WORDS else f'"{value}"'


WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off"})
"""What YAML, or an older YAML, does not read as a text."""
