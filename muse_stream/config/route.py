"""Routes: ordered rules from an intent to the live predictor and any number of shadow predictors.

The first rule whose every condition holds decides; a rule without `when` always holds. Which of several live predictors
answers an event, and whether a sampled shadow scores it, depends on the event id alone.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from muse_stream.config.fields import AttributeName, Name, Number, SpecModel, fault

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


Share = Annotated[Number, Field(gt=0, le=1)]


def _whole(shares: dict[str, float]) -> dict[str, float]:
    total = sum(shares.values())
    if abs(total - 1.0) > 1e-9:
        raise fault(f"the shares sum to {total:.12g}", "the shares of a route sum to 1, for example {a: 0.9, b: 0.1}")
    return shares


def _live_form(value: Any) -> str:
    return "form:shares" if isinstance(value, dict) else "form:name"


Live = Annotated[
    Annotated[Name, Tag("form:name")]
    | Annotated[dict[Name, Share], Field(min_length=1), AfterValidator(_whole), Tag("form:shares")],
    Discriminator(_live_form),
]
"""The live predictor, or several with their shares of the events."""


class RouteSpec(SpecModel):
    """One rule."""

    when: dict[AttributeName, OneOrMany] = Field(default_factory=dict)
    """Intent attribute to the value or values it must have; all must hold. `tenant` is always an attribute."""
    live: Live
    """The predictor whose score is the answer; or several and their shares of the events, which sum to 1. Which of them
    answers an event is decided by the event id alone."""
    shadow: tuple[Shadow, ...] = ()
    """Predictors that score the same events for the audit topic. One that has a share of the live events scores the
    others."""

    @property
    def live_shares(self) -> dict[str, float]:
        """The live predictors and their shares of the events, in the order of the document."""
        return {self.live: 1.0} if isinstance(self.live, str) else self.live
