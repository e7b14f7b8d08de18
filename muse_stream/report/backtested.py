"""What the page of a backtest says, as values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from muse_stream.report.content import Fact


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure with its 95 % interval, where it has one."""

    value: float | None
    """None: it cannot be told."""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy, over all tenants or at one."""

    name: str
    errors: Sequence[Measured]
    """For each threshold the median error of its alert rate, relative to the promise."""
    measures: Sequence[Measured]
    """One for each of the names of measures."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The policies side by side, over all tenants or at one."""

    name: str
    """Of the tenant; empty for all."""
    events: int
    policies: Sequence[Policy]
    noise: Sequence[float]
    """For each threshold what chance alone would give."""
    hindsight: Sequence[Measured] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One period of the walk."""

    begins: str
    ends: str
    predictor: str
    events: int
    positives: int
    judged: bool


@dataclass(frozen=True, slots=True)
class Backtested:
    """The whole."""

    title: str
    made: datetime
    facts: Sequence[Fact]
    thresholds: Sequence[tuple[float, float]]
    """Each with the alert rate that is promised."""
    measures: Sequence[str]
    """Names of the measures, of policies."""
    overall: Compared
    tenants: Sequence[Compared]
    steps: Sequence[Step]
    expert_measures: Sequence[str]
    experts: Sequence[tuple[str, Sequence[Measured]]]
    notes: Sequence[str] = ()
