"""Every name that is used is declared.

In: a `Draft`. Out: a problem for every unknown model, category table, reference, map, predictor, event format, tenant
and intent attribute, with the nearest name that exists.
Law: a name that is declared but broken counts as declared.
"""

from collections.abc import Iterator
from typing import Any

from muse_stream.errors import Problem
from muse_stream.spec.expected import nearest
from muse_stream.spec.graph import AggregateNode, MapNode, ModelNode, NodeSpec
from muse_stream.spec.source import YamlPath
from muse_stream.spec.structure import Draft


def name_problems(draft: Draft) -> Iterator[Problem]:
    """Yield a problem for every unknown name."""
    document = draft.document
    for name, model in document.models.items():
        for tensor, features in model.inputs.items():
            for position, feature in enumerate(features):
                if feature.categories is not None:
                    path = ("models", name, "inputs", tensor, position, "categories")
                    yield from draft.unknown(path, "categories", feature.categories, "category table")
    for name, predictor in document.predictors.items():
        for node, spec in predictor.graph().nodes.items():
            yield from _node(draft, ("predictors", name, *predictor.where(node)), spec)
    for name, tenant in document.tenants.items():
        yield from draft.unknown(("tenants", name, "event"), "events", tenant.event, "event format")
    yield from _routes(draft)


def _node(draft: Draft, path: YamlPath, node: NodeSpec) -> Iterator[Problem]:
    match node:
        case ModelNode(model=model):
            yield from draft.unknown((*path, "model"), "models", model, "model")
        case AggregateNode(model=str(model)):
            yield from draft.unknown((*path, "model"), "models", model, "model")
        case MapNode():
            yield from draft.unknown((*path, "reference"), "references", node.reference, "reference")
            if node.default is not None:
                yield from draft.unknown((*path, "default"), "maps", node.default, "map")
            for tenant, fitted in node.tenants.items():
                yield from draft.unknown((*path, "tenants", tenant), "tenants", tenant, "tenant")
                yield from draft.unknown((*path, "tenants", tenant), "maps", fitted, "map")
        case _:
            return


def _routes(draft: Draft) -> Iterator[Problem]:
    attributes = _attributes(draft.source.tree)
    for position, route in enumerate(draft.document.routes):
        path: YamlPath = ("routes", position)
        yield from draft.unknown((*path, "live"), "predictors", route.live, "predictor")
        for number, shadow in enumerate(route.shadow):
            yield from draft.unknown(
                (*path, "shadow", number, "predictor"), "predictors", shadow.predictor, "predictor"
            )
        for attribute, values in route.when.items():
            if attribute == "tenant":
                for number, tenant in enumerate(values):
                    yield from draft.unknown((*path, "when", "tenant", number), "tenants", tenant, "tenant")
            elif attribute not in attributes:
                hint = nearest(attribute, attributes | {"tenant"})
                message = f"no event format has the intent attribute '{attribute}'"
                yield draft.problem((*path, "when", attribute), message, hint)


def _attributes(tree: Any) -> set[str]:
    """Return every intent attribute that stands in the file, in sound event formats or not."""
    events = tree.get("events") if isinstance(tree, dict) else None
    found: set[str] = set()
    for event in events.values() if isinstance(events, dict) else ():
        intent = event.get("intent") if isinstance(event, dict) else None
        found |= {str(name) for name in intent} if isinstance(intent, dict) else set()
    return found
