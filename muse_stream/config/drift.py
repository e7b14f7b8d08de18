"""What is looked at for drift, and how far scores may leave what was promised: the same for the role `calibrate`,
`muse-stream drift`, `status` and reports."""

from typing import Annotated

from pydantic import Field

from muse_stream.config.fields import Integer, Number, Probability, SpecModel

MOST_DAYS = 62
"""Days that counts are kept."""
Days = Annotated[Integer, Field(ge=1, le=MOST_DAYS)]
NotNegative = Annotated[Number, Field(ge=0)]


class DriftSpec(SpecModel):
    """Windows and limits of drift."""

    days: Days = 30
    """Days of alert rates, counted back from today."""
    recent: Days = 7
    """Days of the population stability index and the Kolmogorov-Smirnov distance; at most `days`."""
    tolerance: NotNegative = 0.2
    """Share of a promised alert rate by which it may move: 0.2 is a fifth."""
    psi: NotNegative = 0.2
    """Largest population stability index."""
    ks: Probability = 0.1
    """Largest Kolmogorov-Smirnov distance from the reference."""
    false_alarm: Annotated[Probability, Field(gt=0, le=0.5)] = 0.01
    """How probable a false alarm is in `days` days, of all tenants, predictors, thresholds and looks together."""


class TenantDriftSpec(SpecModel):
    """Windows and limits of one tenant, in place of the document's."""

    days: Days | None = None
    """Days of alert rates."""
    recent: Days | None = None
    """Days of the population stability index and the Kolmogorov-Smirnov distance."""
    tolerance: NotNegative | None = None
    """Share of a promised alert rate by which it may move."""
    psi: NotNegative | None = None
    """Largest population stability index."""
    ks: Probability | None = None
    """Largest Kolmogorov-Smirnov distance from the reference."""
