"""The kinds of work a plan is made of; each computes one value per row from the values of earlier operators.

The batch (for features and tenants), the rows wanted, and the inputs' values at those rows give `Values`.

Invariant: elementwise and deterministic. A row that cannot be computed is NaN and has a `Fault` saying why, and faults
travel along the graph. Nothing a model raises leaves this module.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.calibration import Curves, Floats, Segments, corrected, corrected_each
from muse_stream.errors import Reason
from muse_stream.scoring.aggregation import Combine
from muse_stream.scoring.bisection import Positions, bisect, described
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.features import Binding, Bound
from muse_stream.scoring.model import Model
from muse_stream.scoring.selection import Selection


class Fault(Struct, frozen=True):
    """Why one row has no value."""

    reason: Reason
    message: str


NO_FAULTS: Mapping[int, Fault] = {}
FEW_ROWS = 100
"""For each map: with more, to join and sort the rows of several takes longer than a call for each."""


class Values(Struct, frozen=True, eq=False):
    """What an operator computed."""

    rows: Selection
    array: Floats
    """[rows.size]; NaN where there is a fault."""
    faults: Mapping[int, Fault]
    """Execution row -> why; may name rows outside `rows`."""


class Execution:
    """One table under execution, with what operators share: tensors of equal bindings and the tenants' numbers."""

    def __init__(self, table: EventTable, tenants: Mapping[str, int]) -> None:
        self.table = table
        self._tenants = tenants
        self.clipped: Counter[str] = Counter()
        """Model -> answers that were a probability but for float error."""
        self._bound: dict[tuple[int, int], Bound] = {}
        self._tenant_numbers: NDArray[np.intp] | None = None

    def bound(self, binding: Binding, rows: Selection) -> Bound:
        """Return the tensors of `binding` for `rows`, built once."""
        key = (id(binding), rows.number)
        if key not in self._bound:
            self._bound[key] = binding.build(self.table.features, rows)
        return self._bound[key]

    def tenant_numbers(self) -> NDArray[np.intp]:
        """Return each row's tenant as a number; unknown and null tenants share the last one."""
        if self._tenant_numbers is None:
            column, unknown = self.table.tenant, len(self._tenants)
            of_code = [unknown if name is None else self._tenants.get(name, unknown) for name in column.values]
            self._tenant_numbers = np.array([*of_code, unknown], dtype=np.intp)[column.codes]
        return self._tenant_numbers


class Operator(Protocol):
    """One distinct node of a generation."""

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Compute the values at `rows`; `parts` are the inputs in order, already aligned to `rows`."""
        ...


class ModelOperator:
    """An expert: features in, raw probability out."""

    def __init__(self, name: str, model: Model, binding: Binding) -> None:
        self._name = name
        self._model = model
        self._binding = binding

    @property
    def texts(self) -> frozenset[str]:
        """The fields that it reads as texts."""
        return self._binding.texts

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Run the model once on all rows that have what it requires."""
        try:
            bound = batch.bound(self._binding, rows)
        except ValueError as error:
            return _all_faulty(rows, Fault(Reason.SCORING_ERROR, f"model {self._name}: {described(error)}"))
        faults = {
            int(rows.rows[position]): Fault(
                Reason.MISSING_FEATURE, f"{field} is missing; model {self._name} requires it"
            )
            for position, field in bound.missing.items()
        }
        for position, what in bound.unfit.items():
            fault = Fault(Reason.INEXACT_FEATURE, f"{what}; model {self._name} reads it")
            faults.setdefault(int(rows.rows[position]), fault)
        return _answered(batch, self._name, self._model, bound.tensors, rows, faults)


class MetaModelOperator:
    """An aggregate by a model over the experts' scores, in their order."""

    def __init__(self, name: str, model: Model, starts: Sequence[int]) -> None:
        """Take the model, and for each of its inputs the first of the experts it reads."""
        self._name = name
        self._model = model
        self._starts = tuple(starts)

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Run the meta-model once on all rows that every expert answered."""
        tensors = []
        for wanted, first in zip(self._model.inputs, self._starts, strict=True):
            columns = [part.array for part in parts[first : first + wanted.width]]
            tensors.append(np.stack(columns, axis=1).astype(wanted.dtype, order="C"))
        return _answered(batch, self._name, self._model, tuple(tensors), rows, dict(_merged(parts)))


class CorrectionOperator:
    """Level 1."""

    def __init__(self, beta: float) -> None:
        self._beta = beta

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Correct each probability."""
        return Values(rows, corrected(parts[0].array, self._beta), parts[0].faults)


class PriorCorrectionOperator:
    """Each tenant's own ratio of odds."""

    def __init__(self, beta_of_tenant: Floats) -> None:
        """Take `[tenants + 1]` ratios; 1 leaves a tenant's probabilities as they are."""
        self._betas = beta_of_tenant
        self._only = float(beta_of_tenant[0]) if len(np.unique(beta_of_tenant)) == 1 else None

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Correct each probability by its tenant's ratio."""
        scores = parts[0].array
        if self._only is not None:
            return Values(rows, corrected(scores, self._only), parts[0].faults)
        return Values(rows, corrected_each(scores, self._betas[rows.take(batch.tenant_numbers())]), parts[0].faults)


class RecalibrationOperator:
    """Each tenant's own curve, or the default; a tenant without one keeps its scores."""

    def __init__(self, segments: Segments, curve_of_tenant: NDArray[np.intp]) -> None:
        """Take the curves, and `[tenants + 1]` curve numbers (-1: none)."""
        self._segments = segments
        self._curve_of_tenant = curve_of_tenant
        distinct = np.unique(curve_of_tenant)
        self._only = int(distinct[0]) if len(distinct) == 1 else None

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Recalibrate each score by its tenant's curve."""
        scores = parts[0].array
        if self._only is not None:
            return Values(rows, self._segments.one(self._only, scores), parts[0].faults)
        curves = self._curve_of_tenant[rows.take(batch.tenant_numbers())]
        fitted = curves >= 0
        changed = scores.copy()
        changed[fitted] = self._segments.each(curves[fitted], scores[fitted])
        return Values(rows, changed, parts[0].faults)


class AggregateOperator:
    """An aggregate by formula."""

    def __init__(self, combine: Combine) -> None:
        self._combine = combine

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Combine the experts of each row."""
        return Values(rows, self._combine([part.array for part in parts]), _merged(parts))


class ClipOperator:
    """Bounds."""

    def __init__(self, low: float, high: float) -> None:
        self._low = low
        self._high = high

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Bound each score."""
        return Values(rows, np.clip(parts[0].array, self._low, self._high), parts[0].faults)


class MapOperator:
    """Level 2: each tenant's own quantile map, or the default."""

    def __init__(self, curves: Curves, curve_of_tenant: NDArray[np.intp], tenants: Sequence[str]) -> None:
        """Take the plan's curves, `[tenants + 1]` numbers of them (-1: this tenant has none), the tenants' names."""
        self._curves = curves
        self._curve_of_tenant = curve_of_tenant
        self._tenants = (*tenants, "(unknown)")
        distinct = np.unique(curve_of_tenant)
        self._only = int(distinct[0]) if len(distinct) == 1 and distinct[0] >= 0 else None
        self._any = bool(distinct[-1] >= 0)

    def run(self, batch: Execution, rows: Selection, parts: Sequence[Values]) -> Values:
        """Map each score by its tenant's curve: the tenants present are looked up, never the rows compared."""
        scores = parts[0].array
        if not self._any:
            return _all_faulty(rows, Fault(Reason.SCORING_ERROR, "no quantile map for any tenant"))
        if self._only is not None:
            return Values(rows, self._curves.segments.one(self._only, scores), parts[0].faults)
        curves = self.curves_of(batch, rows)
        if curves.min() >= 0:
            return Values(rows, self._curves.segments.each(curves, scores), parts[0].faults)
        return self._where_mapped(batch, rows, curves, parts[0])

    def curves_of(self, batch: Execution, rows: Selection) -> NDArray[np.intp]:
        """Return the number of each row's curve; -1 where its tenant has none."""
        if self._only is not None:
            return np.full(rows.size, self._only)
        which: NDArray[np.intp] = self._curve_of_tenant[rows.take(batch.tenant_numbers())]
        return which

    @staticmethod
    def run_together(batch: Execution, wanted: Sequence[tuple["MapOperator", Selection, Values]]) -> list[Values]:
        """Run several of one plan, those with few rows in one evaluation; the bits are those that `run` gives.

        `wanted`: an operator, its rows, and its input there. Hundreds of predictors with a few rows each would take
        longer to call than to compute.
        """
        if len(wanted) > 1 and sum(rows.size for _, rows, _ in wanted) < FEW_ROWS * len(wanted):
            which = [operator.curves_of(batch, rows) for operator, rows, _ in wanted]
            joined = np.concatenate(which)
            if joined.min() >= 0:
                (curves,) = {operator._curves for operator, _, _ in wanted}
                scores = curves.segments.each(joined, np.concatenate([part.array for _, _, part in wanted]))
                parts = np.split(scores, list(accumulate(map(len, which)))[:-1])
                return [Values(rows, own, part.faults) for (_, rows, part), own in zip(wanted, parts, strict=True)]
        return [operator.run(batch, rows, (part,)) for operator, rows, part in wanted]

    def _where_mapped(self, batch: Execution, rows: Selection, curves: NDArray[np.intp], part: Values) -> Values:
        mapped = curves >= 0
        scores = np.full(rows.size, np.nan)
        scores[mapped] = self._curves.segments.each(curves[mapped], part.array[mapped])
        tenants = rows.take(batch.tenant_numbers())
        faults = dict(part.faults)
        for position in np.flatnonzero(~mapped).tolist():
            name = self._tenants[int(tenants[position])]
            fault = Fault(Reason.SCORING_ERROR, f"tenant {name} has no quantile map, and there is no default")
            faults.setdefault(int(rows.rows[position]), fault)
        return Values(rows, scores, faults)


def _merged(parts: Sequence[Values]) -> Mapping[int, Fault]:
    faulty = [part.faults for part in parts if part.faults]
    if not faulty:
        return NO_FAULTS
    merged: dict[int, Fault] = {}
    for faults in reversed(faulty):  # backwards, so the first expert's fault is the one that is told
        merged.update(faults)
    return merged


def _all_faulty(rows: Selection, fault: Fault) -> Values:
    return Values(rows, np.full(rows.size, np.nan), dict.fromkeys(rows.rows.tolist(), fault))


def _answered(
    batch: Execution,
    name: str,
    model: Model,
    tensors: Sequence[NDArray[Any]],
    rows: Selection,
    faults: dict[int, Fault],
) -> Values:
    """Ask a model about every row without a fault; what raises is bisected, what is no probability is a fault."""
    able: Positions = np.arange(rows.size, dtype=np.intp)
    if faults:
        able = np.delete(able, rows.positions(faults))
    found = bisect(able, _asker(model, tensors))
    for index, message in found.culprits.items():
        faults[int(rows.rows[able[index]])] = Fault(Reason.SCORING_ERROR, f"model {name}: {message}")
    probable = (found.answers >= 0.0) & (found.answers <= 1.0)
    if not probable.all():
        probable |= _clipped(batch, name, found.answers, model.float_error)
        for index in np.flatnonzero(~probable).tolist():
            fault = Fault(Reason.NON_FINITE, f"model {name} answered {found.answers[index]:g}, not a probability")
            faults.setdefault(int(rows.rows[able[index]]), fault)
        found.answers[~probable] = np.nan
    if len(able) == rows.size:
        return Values(rows, found.answers, faults)
    array = np.full(rows.size, np.nan)
    array[able] = found.answers
    return Values(rows, array, faults)


def _clipped(batch: Execution, name: str, answers: Floats, error: float) -> NDArray[np.bool_]:
    """Bound, in place, the answers that lie outside [0, 1] by float error alone; returns which, and counts them."""
    near: NDArray[np.bool_] = (answers >= -error) & (answers <= 1.0 + error) & ((answers < 0.0) | (answers > 1.0))
    count = int(near.sum())
    if count:
        answers[near] = np.clip(answers[near], 0.0, 1.0)
        batch.clipped[name] += count
    return near


def _asker(model: Model, tensors: Sequence[NDArray[Any]]) -> Callable[[Positions], Floats]:
    rows = len(tensors[0])

    def ask(positions: Positions) -> Floats:
        # Positions are distinct and ascending: as many as there are rows means all of them, and nothing is copied.
        given = tensors if len(positions) == rows else tuple(tensor[positions] for tensor in tensors)
        answer = np.asarray(model.predict(given), dtype=np.float64)
        if answer.shape != (len(positions),):
            raise ValueError(f"answer of shape {answer.shape} to {len(positions)} rows")
        return answer

    return ask
