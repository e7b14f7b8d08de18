"""Refresh of quantile maps by the role `calibrate`: the policy of a tenant, and what is asked of the events."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from muse_stream.config.fields import Integer, Number, Probability, SpecModel, fault

POLICIES = ("off", "propose", "apply")


def _policy(value: object) -> object:
    if value not in POLICIES:
        raise fault(f"{value!r} is no policy", "off, propose or apply")
    return value


RefreshPolicy = Annotated[Literal["off", "propose", "apply"], BeforeValidator(_policy)]
"""What the role does when a tenant's scores have drifted: nothing, propose a map, or publish it within `step`."""


class RefreshSpec(SpecModel):
    """What holds for the refresh of every tenant's maps; the policy stands with the tenant."""

    step: Annotated[Number, Field(gt=0, lt=1)] = 0.3
    """How far the alert rate at any promised threshold may move without a person, as a share of the promise, on what
    the last map that a person has published was fitted to; a map that moves it further is only proposed."""
    days: Annotated[Integer, Field(ge=1, le=62)] = 7
    """Days that a map is fitted to at most; fewer where the scores have drifted since less."""
    least_hours: Annotated[Number, Field(ge=0, le=1488)] = 24.0
    """Hours of events, at least: a part of a day is not like a day."""
    least_events: Annotated[Integer, Field(ge=100)] = 10_000
    """Events, at least."""
    most_of_one_entity: Annotated[Probability, Field(gt=0)] = 0.1
    """Share of the events that one entity (Kafka key) may have."""
    most_dead_letters: Annotated[Probability, Field(gt=0)] = 0.05
    """Share of the events of any hour that may have become dead letters."""
    longest_wait_s: Annotated[Number, Field(gt=0)] = 300.0
    """Seconds that the tenant's oldest event may have waited to be scored, at any look of the window's days."""
