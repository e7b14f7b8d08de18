"""Routes: ordered rules from an intent to one live predictor and any number of shadow predictors.

The first rule whose every condition holds decides; a rule without `when` always holds. Sampling of a shadow depends on
the event id alone.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from muse_stream.config.fields import AttributeName, Name, Number, SpecModel

Role = Literal["live", "shadow"]
"""What a worker serves: live predictors, whose scores tenants act on, or shadow predictors too, for the audit topic."""


class ShadowSpec(SpecModel):
    """A predictor that scores beside the live one and can never touch its answer."""

    predictor: Name
    """A predictor of this document."""
    sample: Annotated[Number, Field(gt=0, le=1)] = 1.0
    """Share of events it scores, in (0, 1]; which ones is decided by the event id alone."""


def _shadow(value: object) -> object:
    return {"predictor": value} if isinstance(value, str) else value


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Shadow = Annotated[ShadowSpec, BeforeValidator(_shadow, json_schema_input_type=Name | ShadowSpec)]
"""A shadow predictor, or short: its name, for all events."""

OneOrMany = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_one_or_many, json_schema_input_type=str | Annotated[list[str], Field(min_length=1)]),
]
"""One value or a list of values."""


class RouteSpec(SpecModel):
    """One rule."""

    when: dict[AttributeName, OneOrMany] = Field(default_factory=dict)
    """Intent attribute to the value or values it must have; all must hold. `tenant` is always an attribute."""
    live: Name
    """The predictor whose score is the answer."""
    shadow: tuple[Shadow, ...] = ()
    """Predictors that score the same events for the audit topic."""
