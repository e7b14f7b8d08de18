"""A generation's plan, ready to run: pure data, made by `planner`, run by `execute`.

It lists the distinct operators in an order in which inputs come first, and who wants which of them. An operator stands
here once, however many predictors, tenants and roles share it.
"""

from collections.abc import Mapping

from msgspec import Struct

from muse_stream.calibration import Floats
from muse_stream.scoring.operators import Operator
from muse_stream.scoring.routing import Router, Split


class PlannedOperator(Struct, frozen=True):
    """One distinct node."""

    step: Operator
    inputs: tuple[int, ...]
    """Numbers of earlier operators, in order."""
    selection: int
    """Which rows any predictor needs it for."""


class PlannedExpert(Struct, frozen=True):
    """Where an expert's two values are found."""

    name: str
    raw: int
    corrected: int


class PlannedPredictor(Struct, frozen=True):
    """A predictor in one role: its rows, and the operators that hold its answers."""

    name: str
    version: int
    selection: int
    output: int
    aggregate: int
    """The value before the quantile map; the output itself when there is none."""
    experts: tuple[PlannedExpert, ...]


class Plan(Struct, frozen=True, eq=False):
    """Everything `execute` reads."""

    router: Router
    split: Split
    steps: tuple[PlannedOperator, ...]
    live: tuple[PlannedPredictor, ...]
    shadow: tuple[PlannedPredictor, ...]
    shares: Floats
    """[selections, parts of routes + 1]: share of each part's events; the last column is for rows without a route."""
    tenants: Mapping[str, int]
    """Tenants that quantile maps know, numbered."""

    @property
    def samples(self) -> bool:
        """Tell whether event ids decide anything."""
        return self.split.any or bool(((self.shares > 0.0) & (self.shares < 1.0)).any())
