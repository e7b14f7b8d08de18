"""Every predictor once, whatever the routes say: what a generation is tried with before it serves.

A plan, a table of made-up events, and on which tenants' events each predictor is to be tried give what each came to.
The same operators as in service, each run once; only the routing is another, by tenant alone. A predictor that fails
changes nothing for the others.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct
from msgspec.structs import replace

from muse_stream.calibration import Floats
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.execute import collected, run
from muse_stream.scoring.operators import Execution, Fault
from muse_stream.scoring.plan import Plan, PlannedPredictor
from muse_stream.scoring.routing import Router
from muse_stream.scoring.scores import PredictorScores
from muse_stream.scoring.selection import Selections, Shares


class Rehearsed(Struct, frozen=True, eq=False):
    """One predictor's trial."""

    scores: PredictorScores
    """All rows it was tried on, those with a fault too."""
    faults: Mapping[int, Fault]
    """Row -> why it has no score."""


def rehearse(program: Plan, table: EventTable, tried: Mapping[str, Collection[str]]) -> tuple[Rehearsed, ...]:
    """Run predictors (name -> tenants) on the rows of these tenants; names that the plan lacks are passed over."""
    if not table.count:
        return ()
    tenants = sorted({tenant for names in tried.values() for tenant in names})
    numbers = {tenant: number for number, tenant in enumerate(tenants)}
    router = Router([{"tenant": frozenset({tenant})} for tenant in tenants])
    planned = {one.name: one for one in (*program.live, *program.shadow) if one.name in tried}
    selections: dict[frozenset[int], int] = {}

    def selection(wanted: frozenset[int]) -> int:
        return selections.setdefault(wanted, len(selections))

    wanted_by = {name: frozenset(numbers[tenant] for tenant in tried[name]) for name in planned}
    of_step: list[frozenset[int]] = [frozenset()] * len(program.steps)
    for name, one in planned.items():
        for step in _reached(program, one):
            of_step[step] |= wanted_by[name]
    steps = tuple(replace(one, selection=selection(of_step[n])) for n, one in enumerate(program.steps))
    predictors = [replace(one, selection=selection(wanted_by[name])) for name, one in planned.items()]
    shares = Shares([dict.fromkeys(chosen, 1.0) for chosen in selections], len(tenants))
    row_sets = Selections(router.route({"tenant": table.tenant}, table.count), shares, _unsampled)
    values = run(replace(program, steps=steps), Execution(table, program.tenants), row_sets)
    asked = ((one, row_sets.of(one.selection)) for one in predictors)
    return tuple(Rehearsed(*collected(one, rows, values, row_sets)) for one, rows in asked if rows.size)


def _reached(program: Plan, predictor: PlannedPredictor) -> set[int]:
    reached: set[int] = set()
    waiting = [predictor.output, predictor.aggregate]
    waiting += [number for expert in predictor.experts for number in (expert.raw, expert.corrected)]
    while waiting:
        number = waiting.pop()
        if number not in reached:
            reached.add(number)
            waiting.extend(program.steps[number].inputs)
    return reached


def _unsampled() -> Floats:
    raise AssertionError("nothing is sampled here: every share is 0 or 1")
