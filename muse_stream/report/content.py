"""What a report says, as values: no file, no topic, no HTML."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from muse_stream.calibration import Drift, Floats, GroupedRate


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of the head: what the report is of."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Threshold:
    """Both predictors at one threshold of one tenant."""

    threshold: float
    promised: float | None
    live: GroupedRate
    shadow: GroupedRate
    change: float
    margin: float
    """The change lies within so much of what was measured, with 95 % confidence."""
    gained: int
    """Events that would become alerts."""
    lost: int
    """Alerts that would be none."""
    agreement: float | None
    """Share of the live alerts that the shadow raises too; None where there are none."""
    word: str
    """What that means: kept, moves, too few."""


@dataclass(frozen=True, slots=True)
class Change:
    """An event that would change sides at some threshold."""

    event_id: str
    time: datetime
    live: float
    shadow: float
    crossed: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The distributions of both, and their quantiles side by side."""

    edges: Floats
    live: Floats
    """[bins] share of the events."""
    shadow: Floats
    live_quantiles: Floats
    shadow_quantiles: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How true a predictor's probabilities are: its aggregate against the share of positives, bin by bin."""

    predictor: str
    events: int
    positives: int
    error: float
    """Expected calibration error."""
    score: Floats
    rate: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """A shadow predictor beside the live one, on the same events of one tenant."""

    live: str
    shadow: str
    events: int
    entities: int
    failed: int
    generations: str
    agreement: float | None
    """Spearman's rank correlation; None where one of the two gives every event the same score."""
    spread: Spread
    thresholds: Sequence[Threshold]
    changes: Sequence[Change]
    """The largest; `changing` counts all."""
    changing: int
    verdict: str
    word: str
    calibrations: Sequence[Calibration] = ()


@dataclass(frozen=True, slots=True)
class Day:
    """One predictor's scores on one day."""

    day: datetime
    events: int
    rates: Sequence[GroupedRate]
    """One for each threshold."""
    stability: float | None
    """Population stability index against the promise; None where there is none."""
    distance: float | None
    """Kolmogorov-Smirnov distance, likewise."""


@dataclass(frozen=True, slots=True)
class Days:
    """One predictor's scores day by day."""

    predictor: str
    role: str
    thresholds: Sequence[float]
    promised: Sequence[float | None]
    days: Sequence[Day]
    drift: Drift | None = None
    """Of the events since the present map serves; None where nothing is promised, or no record is of this map."""
    recent: int = 0
    """Days that its stability index and distance are of."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """All that is said of one tenant."""

    name: str
    scores: int
    audit: int
    pairs: Sequence[Pair]
    days: Sequence[Days]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class History:
    """One generation of the store."""

    number: int
    current: bool
    created: datetime | None
    author: str
    message: str
    parent: int | None
    evidence: str
    problem: str
    answered: bool
    """Whether records of the report were made under it."""


@dataclass(frozen=True, slots=True)
class Report:
    """The whole."""

    title: str
    made: datetime
    facts: Sequence[Fact]
    tolerance: float
    tenants: Sequence[Tenant]
    history: Sequence[History] | None
    """None: the configuration is a file, which has no history."""
    notes: Sequence[str] = field(default=())
