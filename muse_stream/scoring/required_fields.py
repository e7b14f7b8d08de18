"""What must be decoded for one event format: feature fields, intent attributes, and whether ids decide anything.

Invariant: never too little. A route counts unless no tenant of the format can reach it: its tenants are others, a
constant attribute contradicts it, it asks for an attribute the format does not have, or an earlier rule takes
everything.
"""

from collections.abc import Iterator

from msgspec import Struct

from muse_stream.config import Document, EventSpec, Role, RouteSpec


class RequiredFields(Struct, frozen=True):
    """What the columns of one event format are needed for."""

    fields: tuple[str, ...]
    """Dotted feature fields, sorted."""
    intent: tuple[str, ...]
    """Intent attributes that routes ask for and this format has, in the order it declares them."""
    ids: bool
    """Whether `EventTable.ids` is read."""


def required_fields_of(document: Document, event: str, role: Role) -> RequiredFields:
    """Return what scoring events of format `event` takes. Raises KeyError for an unknown format."""
    spec = document.events[event]
    routes = reachable(document, event)
    shadow = [one for route in routes for one in route.shadow] if role == "shadow" else []
    live = [name for route in routes for name in route.live_shares]
    predictors = dict.fromkeys(live + [one.predictor for one in shadow])
    experts = {model for name in predictors for model in document.predictors[name].graph().experts()}
    fields = {feature.field for model in experts for feature in document.models[model].features()}
    asked = {name for route in document.routes for name in route.when}
    return RequiredFields(
        tuple(sorted(fields)),
        tuple(name for name in spec.intent if name in asked),
        any(one.sample < 1.0 for one in shadow) or any(len(route.live_shares) > 1 for route in routes),
    )


def reachable(document: Document, event: str) -> tuple[RouteSpec, ...]:
    """Return the routes that an event of this format may take, in their order."""
    tenants = [name for name, one in document.tenants.items() if one.event == event]
    reached = {number for tenant in tenants for number in _reached(document, tenant)}
    return tuple(document.routes[number] for number in sorted(reached))


def predictors_of(document: Document, tenant: str, role: Role) -> tuple[str, ...]:
    """Return the predictors whose answers a role gives to a tenant's events: live ones, or those of its shadows."""
    routes = [document.routes[number] for number in _reached(document, tenant)]
    live = [name for route in routes for name in route.live_shares]
    shadow = [one.predictor for route in routes for one in route.shadow]
    return tuple(dict.fromkeys(live if role == "live" else shadow))


def _reached(document: Document, tenant: str) -> Iterator[int]:
    """Yield the routes that a tenant's events may take."""
    spec = document.events[document.tenants[tenant].event]
    for number, route in enumerate(document.routes):
        holds = _holds(route, spec, tenant)
        if holds is not False:
            yield number
        if holds:
            return


def _holds(route: RouteSpec, event: EventSpec, tenant: str) -> bool | None:
    """Tell whether a rule holds for a tenant's events: True for all, False for none, None for some."""
    certain = True
    for name, allowed in route.when.items():
        source = event.intent.get(name)
        if name == "tenant":
            if tenant not in allowed:
                return False
        elif source is None:
            return False
        elif source.value is None:
            certain = False
        elif source.value not in allowed:
            return False
    return True if certain else None
