"""Routes and maps: what is served to whom, and what is never used.

Problems: a tenant without a map, where a route can lead it to a mapped predictor; a shadow of itself. Warnings: what is
declared but never used, and a refresh without a map.
"""

from collections.abc import Collection, Iterator

from muse_stream.config.document import Document
from muse_stream.config.route import RouteSpec
from muse_stream.config.structure import Draft
from muse_stream.errors import Problem


def usage_problems(draft: Draft) -> Iterator[Problem]:
    """Yield a problem for every shadow that shadows itself and every tenant that has no map."""
    for position, route in enumerate(draft.document.routes):
        seen: set[str] = set()
        for number, shadow in enumerate(route.shadow):
            path = ("routes", position, "shadow", number)
            if route.live_shares.get(shadow.predictor) == 1.0:
                message = f"'{shadow.predictor}' is the live predictor of this route"
                yield draft.problem(path, message, "a shadow is another predictor: remove it")
            elif shadow.predictor in seen:
                yield draft.problem(path, f"'{shadow.predictor}' is named twice", "name each shadow predictor once")
            seen.add(shadow.predictor)
    yield from _tenants_without_map(draft)


def _tenants_without_map(draft: Draft) -> Iterator[Problem]:
    served: dict[str, set[str]] = {}
    for route in draft.document.routes:
        for name in (*route.live_shares, *(shadow.predictor for shadow in route.shadow)):
            served.setdefault(name, set()).update(_tenants(draft.document, route))
    for name, predictor in draft.document.predictors.items():
        for node, refs in predictor.graph().map_nodes().items():
            missing = sorted(tenant for tenant in served.get(name, ()) if refs.map_of(tenant) is None)
            if missing:
                some = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
                yield draft.problem(
                    ("predictors", name, *predictor.where(node)),
                    f"no map for tenants that routes lead here: {some}",
                    "add `default: MAP`, or a map under `tenants`",
                )


def _tenants(document: Document, route: RouteSpec) -> set[str]:
    named = route.when.get("tenant")
    return set(document.tenants) if named is None else set(named) & set(document.tenants)


def usage_warnings(draft: Draft) -> Iterator[Problem]:
    """Yield a warning for everything that is declared and never used."""
    yield from _nothing_to_refresh(draft)
    document = draft.document
    graphs = document.graphs().values()
    maps = [refs for graph in graphs for refs in graph.map_nodes().values()]
    curves = [node for graph in graphs for node in graph.recalibration_nodes().values()]
    routed = {name for route in document.routes for name in route.live_shares}
    routed |= {shadow.predictor for route in document.routes for shadow in route.shadow}
    used: dict[str, tuple[Collection[str | None], str]] = {
        "predictors": (routed, "no route names this predictor"),
        "models": ({model for graph in graphs for model in graph.models()}, "no predictor uses this model"),
        "references": ({refs.reference for refs in maps}, "no quantile map leads to this reference"),
        "maps": ({name for refs in maps for name in refs.maps()}, "no predictor uses this map"),
        "recalibrations": ({name for node in curves for name in node.curves()}, "no predictor uses this recalibration"),
        "events": ({tenant.event for tenant in document.tenants.values()}, "no tenant sends this event format"),
        "categories": (
            {feature.categories for model in document.models.values() for feature in model.features()},
            "no feature uses this category table",
        ),
    }
    for section, (names, message) in used.items():
        for name in getattr(document, section):
            if name not in names:
                yield draft.problem((section, name), message, "use it or remove it")


def _nothing_to_refresh(draft: Draft) -> Iterator[Problem]:
    """Yield the tenants whose maps are to be refreshed, and that no predictor with a map answers or shadows."""
    document = draft.document
    mapped = {name for name, predictor in document.predictors.items() if predictor.graph().map_nodes()}
    refreshed: set[str] = set()
    for route in document.routes:
        if mapped & {*route.live_shares, *(shadow.predictor for shadow in route.shadow)}:
            refreshed |= _tenants(document, route)
    for name, tenant in document.tenants.items():
        if tenant.refresh != "off" and name not in refreshed:
            message = f"'{tenant.refresh}', and no predictor that routes lead it to has a quantile map"
            yield draft.problem(("tenants", name, "refresh"), message, "leave it out, or give the predictor a map")
