"""A generation compiled for execution: what workers, replay and notebooks call.

Made of a checked document, its loaded models, its fitted maps, the generation's number and a role; compiled once, off
the scoring path, or refused whole with every problem.

Invariant: immutable and without hidden state. Both roles give the same live bits: the live role only leaves out what no
live answer depends on.
"""

from collections.abc import Collection, Mapping
from typing import Final

from muse_stream.calibration import FittedMap, Recalibration
from muse_stream.config import Document, Role
from muse_stream.scoring.answers import Answers
from muse_stream.scoring.dataframe import Table, Wanted, answers, event_table
from muse_stream.scoring.event_table import EventTable
from muse_stream.scoring.execute import execute
from muse_stream.scoring.model import Model
from muse_stream.scoring.operators import ModelOperator
from muse_stream.scoring.plan import Plan
from muse_stream.scoring.planner import models_needed, plan, predictors_needed
from muse_stream.scoring.rehearsal import Rehearsed, rehearse
from muse_stream.scoring.required_fields import RequiredFields, required_fields_of
from muse_stream.scoring.scores import Scored

__all__ = ["Snapshot", "compile_snapshot", "models_needed", "predictors_needed"]


class Snapshot:
    """One role's compiled generation. Made by `muse_stream.load`; safe to share between threads."""

    def __init__(self, program: Plan, document: Document, number: int, role: Role) -> None:
        self.number: Final[int] = number
        """Of the generation; 0 for a file that was not published."""
        self.role: Final[Role] = role
        """`shadow` has every predictor, `live` those alone that answer."""
        self.tenants: Final[tuple[str, ...]] = tuple(document.tenants)
        """Names of the tenants, in the document's order."""
        self.predictors: Final[tuple[str, ...]] = predictors_needed(document, role)
        """Names of the predictors that this role runs, in order of first use by the routes."""
        self._program = program
        self._needs = {event: required_fields_of(document, event, role) for event in document.events}
        experts = {model for name in self.predictors for model in document.predictors[name].graph().experts()}
        features = [feature for model in experts for feature in document.models[model].features()]
        self.texts: Final = frozenset(field for planned in program.steps for field in _texts(planned.step))
        """Those of the feature fields that are read as texts: by a category table, or for a tensor of strings."""
        self.fields: Final = frozenset(feature.field for feature in features)
        """Dotted feature fields that any predictor of this role reads."""
        self.intent_attributes: Final = tuple(name for name in program.router.attributes if name != "tenant")
        """Intent attributes that routes ask for, `tenant` aside."""
        self.needs_ids: Final = program.samples
        """Whether `EventTable.ids` must be given."""

    def __repr__(self) -> str:
        return (
            f"<Snapshot of generation {self.number}, {self.role}: "
            f"predictors {', '.join(self.predictors)}; {len(self.tenants)} tenants>"
        )

    def needs(self, event: str) -> RequiredFields:
        """Return what must be decoded of one event format. Raises KeyError for an unknown format."""
        return self._needs[event]

    def execute(self, table: EventTable) -> Scored:
        """Score a batch: every row is answered by its live predictor or rejected; see `Scored`."""
        return execute(self._program, table)

    def rehearse(self, table: EventTable, tried: Mapping[str, Collection[str]]) -> tuple[Rehearsed, ...]:
        """Run predictors (name -> tenants) on the rows of these tenants, whatever routes say; see `Rehearsed`."""
        return rehearse(self._program, table, tried)

    def table(self, table: Table) -> EventTable:
        """Return a table in the form that `execute` takes; raises ValueError as `score` does."""
        asked = Wanted(frozenset(self.tenants), self.fields, self.texts, self.intent_attributes, self.needs_ids)
        return event_table(table, asked)

    def score(self, table: Table) -> Answers:
        """Score a table in a notebook.

        `table` is a mapping of columns, a pyarrow Table or a pandas DataFrame; its columns are `tenant`, the intent
        attributes, the feature fields by dotted name, and `id` when shadows are sampled. A scalar stands for every row.
        Returns a dict of columns, one entry per row: `score`, `aggregate`, `predictor`, `predictor_version`, `error`
        (None where there is a score), and `shadow:NAME` for each shadow predictor (NaN where it did not score);
        `.to_arrow()` and `.to_pandas()` give them as a table.
        Raises ValueError naming every column that is missing, or a tenant that does not exist.
        """
        given = self.table(table)
        return answers(self.execute(given), given.count, [one.name for one in self._program.shadow])


def _texts(operator: object) -> frozenset[str]:
    """Return the fields that an operator reads as texts."""
    return operator.texts if isinstance(operator, ModelOperator) else frozenset()


def compile_snapshot(
    document: Document,
    models: Mapping[str, Model],
    maps: Mapping[str, FittedMap],
    recalibrations: Mapping[str, Recalibration] | None = None,
    *,
    number: int,
    role: Role,
) -> Snapshot:
    """Compile one generation for one role.

    `models` holds at least `models_needed(document, role)` by name, `maps` and `recalibrations` what was
    fitted, by name.
    Raises ConfigError with every problem: what is missing, does not fit, or was fitted for something else.
    """
    return Snapshot(plan(document, models, maps, role, recalibrations), document, number, role)
