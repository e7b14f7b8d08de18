"""A generation's plan, ready to run: pure data, made by `planner`, run by `execute`.

It lists the distinct operators in an order in which inputs come first, and who wants which of them. An operator stands
here once, however many predictors, tenants and roles share it.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.scoring.operators import Operator
from muse_stream.scoring.routing import Router, Split
from muse_stream.scoring.selection import Shares


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


class Selected(Struct, frozen=True, eq=False):
    """The selections of all that a plan lists, in its order: to find at once which of them a batch needs."""

    steps: NDArray[np.intp]
    live: NDArray[np.intp]
    shadow: NDArray[np.intp]


class Plan(Struct, frozen=True, eq=False, dict=True):
    """Everything `execute` reads."""

    router: Router
    split: Split
    steps: tuple[PlannedOperator, ...]
    live: tuple[PlannedPredictor, ...]
    shadow: tuple[PlannedPredictor, ...]
    shares: Shares
    tenants: Mapping[str, int]
    """Tenants that quantile maps know, numbered."""

    @cached_property
    def selected(self) -> Selected:
        """The selections of operators and predictors."""
        lists = self.steps, self.live, self.shadow
        return Selected(*(np.array([one.selection for one in of], dtype=np.intp) for of in lists))

    @property
    def samples(self) -> bool:
        """Tell whether event ids decide anything."""
        return self.split.any or self.shares.samples
