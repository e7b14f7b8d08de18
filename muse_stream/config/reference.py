"""Reference distributions (what a tenant was promised) and fitted quantile maps (how it is kept).

Levels increase strictly, values never decrease, all lie in [0, 1]; a map says for which predictor content it was
fitted.
"""

import re
from itertools import pairwise
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, model_validator

from muse_stream.calibration import FittedMap
from muse_stream.config.fields import Integer, Levels, Name, Number, Sha256, SpecModel, Text, Values, Weight, fault

NUMBER = re.compile(r"\d+(\.\d*)?|\.\d+")


def _thresholds(rates: object) -> object:
    """Take thresholds in quotes for what they are: in JSON, which is YAML too, every key is a text."""
    if not isinstance(rates, dict):
        return rates
    found: dict[object, object] = {}
    for key, rate in rates.items():
        threshold: object = key
        if isinstance(key, str):
            if not NUMBER.fullmatch(key):
                raise fault(f"'{key[:60]}' is no threshold", "a number between 0 and 1, such as 0.5")
            threshold = float(key)
        if threshold in found:
            raise fault(f"threshold {threshold} is named twice", "each threshold once")
        found[threshold] = rate
    return found


def _alert_rates(rates: dict[float, float]) -> dict[float, float]:
    for threshold, rate in rates.items():
        if not (0.0 < threshold < 1.0 and 0.0 < rate < 1.0):
            raise fault(
                f"{threshold}: {rate} is outside (0, 1)", "threshold and alert rate lie strictly between 0 and 1"
            )
    ordered = sorted(rates.items())
    for (below, rate_below), (above, rate_above) in pairwise(ordered):
        if rate_above >= rate_below:
            raise fault(
                f"alert rate {rate_above} at threshold {above} is not below {rate_below} at {below}",
                "a higher threshold alerts on fewer events, for example {0.5: 0.35, 0.8: 0.05}",
            )
    return dict(ordered)


class Quantiles(SpecModel):
    """A distribution by its quantiles: `values[i]` is the score at cumulative probability `levels[i]`."""

    levels: Levels
    """Cumulative probabilities, strictly increasing in [0, 1], at least two."""
    values: Values
    """Scores at these levels, never decreasing in [0, 1], as many as levels."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        _pairs(self.levels, self.values)
        return self


class BetaComponent(SpecModel):
    """One component of a mixture of Beta distributions."""

    weight: Weight
    """Share of this component; the shares sum to 1."""
    a: Annotated[Number, Field(gt=0)]
    """First shape parameter, above 0."""
    b: Annotated[Number, Field(gt=0)]
    """Second shape parameter, above 0."""


def _whole(components: tuple[BetaComponent, ...]) -> tuple[BetaComponent, ...]:
    total = sum(component.weight for component in components)
    if abs(total - 1.0) > 1e-9:
        raise fault(f"the weights sum to {total:.12g}", "the weights of a mixture sum to 1")
    return components


class ReferenceSpec(SpecModel):
    """The stable distribution of scores that a tenant was promised: exactly one of the three forms."""

    alert_rates: (
        Annotated[dict[Number, Number], Field(min_length=1), BeforeValidator(_thresholds), AfterValidator(_alert_rates)]
        | None
    ) = None
    """Threshold to the share of events at or above it, for example `{0.5: 0.35, 0.8: 0.05}`."""
    quantiles: Quantiles | None = None
    """The quantile function by its knots."""
    beta_mixture: Annotated[tuple[BetaComponent, ...], Field(min_length=1), AfterValidator(_whole)] | None = None
    """A mixture of Beta distributions."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise fault(
                f"{' and '.join(given) if given else 'nothing'} given",
                "give one of alert_rates, quantiles, beta_mixture",
            )
        return self


class FileMap(SpecModel):
    """A fitted quantile map in a JSON file `{"fitted_for": ..., "levels": [...], "values": [...], "samples": n}`, as
    `FittedMap.to_json` gives it."""

    file: Text
    """JSON file, relative to this document."""
    sha256: Sha256
    """SHA-256 of the file: 64 hexadecimal digits in lower case."""


class InlineMap(SpecModel):
    """A fitted quantile map: the distribution of the pre-mapping aggregate on the sample it was fitted on."""

    fitted_for: Sha256
    """Content hash of the predictor up to the map's input; `muse-stream check --json` has it."""
    levels: Levels
    """Cumulative probabilities, strictly increasing in [0, 1], at least two."""
    values: Values
    """Pre-mapping aggregates at these levels, never decreasing in [0, 1], as many as levels."""
    samples: Annotated[Integer, Field(ge=1)]
    """How many events it was fitted on."""
    fitted_on: tuple[Name, ...] = ()
    """Tenants whose events these were, where that is known: `publish` then warns of a map of somebody else."""
    own_share: Annotated[Number, Field(ge=0, le=1)] | None = None
    """Of a cold start: how much of the map the tenant's own events have decided; the rest is the pool's."""
    format: Annotated[Integer, Field(ge=1, le=FittedMap.FORMAT)] = 1
    """Of the stored form."""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        _pairs(self.levels, self.values)
        return self


def _pairs(levels: tuple[float, ...], values: tuple[float, ...]) -> None:
    if len(levels) != len(values):
        raise fault(f"{len(levels)} levels but {len(values)} values", "give one value per level")


def _map_form(value: Any) -> str:
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "form:file" if "file" in given else "form:inline"


MapSpec = Annotated[
    Annotated[FileMap, Tag("form:file")] | Annotated[InlineMap, Tag("form:inline")], Discriminator(_map_form)
]
"""A fitted quantile map, in a file or inline."""
