"""Runs a plan on a batch: route, run each operator once, collect the answers of each predictor.

Invariant: no state survives the call; a row's answer depends on that row alone. Live answers are collected before any
shadow answer is looked at, from operators that do not know who asked.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from muse_stream.calibration import Floats
from muse_stream.errors import Reason, Rejected, Stage
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.operators import Execution, Fault, MapOperator, Values
from muse_stream.scoring.plan import Plan, PlannedPredictor
from muse_stream.scoring.routing import NO_ROUTE
from muse_stream.scoring.sampling import place, position
from muse_stream.scoring.scores import ExpertScores, PredictorScores, Scored
from muse_stream.scoring.selection import Selection, Selections

STAGE_OF: Mapping[Reason, Stage] = dict.fromkeys((Reason.MISSING_FEATURE, Reason.INEXACT_FEATURE), Stage.VALIDATE)
"""Faults of scoring that are not met in stage `score`."""


def execute(program: Plan, table: EventTable) -> Scored:
    """Score one batch. Raises ValueError when the plan samples and the table has no ids."""
    if not table.count:
        return Scored((), (), ())
    routes = program.router.route({**table.intent, "tenant": table.tenant}, table.count)
    parts = program.split.divide(routes, _by_id(table, place))
    row_sets = Selections(parts, program.shares, _by_id(table, position))
    execution = Execution(table, program.tenants)
    values = run(program, execution, row_sets)
    rejected = [_unrouted(row) for row in np.flatnonzero(routes == NO_ROUTE).tolist()]
    live = []
    for number in row_sets.needed(program.selected.live):
        predictor = program.live[number]
        rows = row_sets.of(predictor.selection)
        if rows.size:
            scores, faults = collected(predictor, rows, values, row_sets)
            rejected += [
                Rejected(row, fault.reason, STAGE_OF.get(fault.reason, Stage.SCORE), fault.message)
                for row, fault in faults.items()
            ]
            live.append(without(scores, np.fromiter(faults, np.int64, len(faults))) if faults else scores)
    rejected.sort(key=lambda fault: fault.row)
    gone = np.array([fault.row for fault in rejected], dtype=np.int64)
    shadow = []
    for number in row_sets.needed(program.selected.shadow):
        predictor = program.shadow[number]
        rows = row_sets.of(predictor.selection)
        if rows.size:
            scores, _ = collected(predictor, rows, values, row_sets)
            shadow.append(without(scores, gone))
    return Scored(_answering(live), _answering(shadow), tuple(rejected), execution.clipped)


def _unrouted(row: int) -> Rejected:
    return Rejected(row, Reason.NO_ROUTE, Stage.ROUTE, "no route matches the intent of this event")


def _by_id(table: EventTable, number: Callable[[NDArray[np.bytes_]], Floats]) -> Callable[[], Floats]:
    """Return a function that gives a number of each event's id, computed once, when first asked for."""
    made: list[Floats] = []

    def numbers() -> Floats:
        if not made:
            if table.ids is None:
                raise ValueError("routes choose predictors by event id, and the table has no ids")
            made.append(number(table.ids))
        return made[0]

    return numbers


def run(program: Plan, batch: Execution, row_sets: Selections) -> list[Values | None]:
    """Return what each operator computed, in their order; None where no predictor wants it."""
    values: list[Values | None] = [None] * len(program.steps)
    maps: dict[int, tuple[MapOperator, Selection, Values]] = {}  # those that nothing has asked for yet: run together

    def run_maps() -> None:
        if maps:
            for number, mapped in zip(maps, MapOperator.run_together(batch, list(maps.values())), strict=True):
                values[number] = mapped
            maps.clear()

    for number in row_sets.needed(program.selected.steps):
        planned = program.steps[number]
        rows = row_sets.of(planned.selection)
        if not rows.size:
            continue
        if not maps.keys().isdisjoint(planned.inputs):
            run_maps()
        parts = [_at(values, source, rows, row_sets) for source in planned.inputs]
        if isinstance(planned.step, MapOperator):
            maps[number] = planned.step, rows, parts[0]
        else:
            values[number] = planned.step.run(batch, rows, parts)
    run_maps()
    return values


def _at(values: list[Values | None], number: int, rows: Selection, row_sets: Selections) -> Values:
    """Return what operator `number` computed, at `rows` only."""
    computed = values[number]
    if computed is None:
        raise AssertionError(f"operator {number} is read where it was not run")  # the planner's selections forbid it
    if computed.rows is rows:
        return computed
    array = row_sets.aligned(computed.array, computed.rows, rows)
    faults = computed.faults
    if faults and rows.size < computed.rows.size:
        faults = {row: faults[row] for row in rows.rows[rows.positions(faults)].tolist()}
    return Values(rows, array, faults)


def collected(
    predictor: PlannedPredictor, rows: Selection, values: list[Values | None], row_sets: Selections
) -> tuple[PredictorScores, Mapping[int, Fault]]:
    """Return a predictor's answers at `rows`, and why some of them are none."""

    known: dict[int, Values] = {}

    def at(number: int) -> Values:
        if number not in known:
            known[number] = _at(values, number, rows, row_sets)
        return known[number]

    output = at(predictor.output)
    experts = tuple(
        ExpertScores(expert.name, at(expert.raw).array, at(expert.corrected).array) for expert in predictor.experts
    )
    faults, score = output.faults, output.array
    if not (score.min() >= 0.0 and score.max() <= 1.0):  # NaN is neither
        in_range = (score >= 0.0) & (score <= 1.0)
        faults = dict(faults)
        for place in np.flatnonzero(~in_range).tolist():
            fault = Fault(Reason.NON_FINITE, f"predictor {predictor.name} came to {score[place]:g}, not a score")
            faults.setdefault(int(rows.rows[place]), fault)
        score = np.where(in_range, score, np.nan)
    errors = {row: fault.message for row, fault in faults.items()}
    aggregate = at(predictor.aggregate).array
    collected = PredictorScores(predictor.name, predictor.version, rows.rows, score, aggregate, experts, errors)
    return collected, faults


def without(scores: PredictorScores, gone: NDArray[np.int64]) -> PredictorScores:
    """Drop some rows: those that have no live score."""
    if not len(gone):
        return scores
    kept = ~np.isin(scores.rows, gone)
    if kept.all():
        return scores
    dropped = set(gone.tolist())
    return PredictorScores(
        scores.predictor,
        scores.version,
        scores.rows[kept],
        scores.score[kept],
        scores.aggregate[kept],
        tuple(ExpertScores(one.name, one.raw[kept], one.corrected[kept]) for one in scores.experts),
        {row: message for row, message in scores.errors.items() if row not in dropped},
    )


def _answering(scores: list[PredictorScores]) -> tuple[PredictorScores, ...]:
    return tuple(answers for answers in scores if len(answers.rows))
