"""Every name that is used is declared.

Reports every unknown model, category table, reference, map, predictor, event format, tenant and intent attribute, with
the nearest name that exists. It reads the file itself, not the document, so a name is checked even where something else
beside it is broken; a name that is declared but broken counts as declared. Nothing is said of names whose section is
not there because its own name is wrong: that was reported, and one word would be followed by a line for each use.
`PLACES` is the whole list of places where names are used.
"""

from collections.abc import Iterator
from typing import Any

from muse_stream.config.document import Document
from muse_stream.config.event import EventSpec
from muse_stream.config.expected import nearest
from muse_stream.config.fields import SpecModel
from muse_stream.config.source import YamlKey, YamlPath
from muse_stream.config.structure import SECTIONS, Draft
from muse_stream.errors import Problem

PLACES: tuple[tuple[str, str, str], ...] = (
    ("models.*.inputs.*.categories", "categories", "category table"),
    ("models.*.inputs.*.*.categories", "categories", "category table"),
    ("predictors.*.experts.*.model", "models", "model"),
    ("predictors.*.aggregate.model", "models", "model"),
    ("predictors.*.quantile_map.reference", "references", "reference"),
    ("predictors.*.quantile_map.default", "maps", "map"),
    ("predictors.*.quantile_map.tenants.*", "maps", "map"),
    ("predictors.*.nodes.*.model", "models", "model"),
    ("predictors.*.nodes.*.aggregate.model", "models", "model"),
    ("predictors.*.nodes.*.quantile_map.reference", "references", "reference"),
    ("predictors.*.nodes.*.quantile_map.default", "maps", "map"),
    ("predictors.*.nodes.*.quantile_map.tenants.*", "maps", "map"),
    ("predictors.*.nodes.*.recalibration.default", "recalibrations", "recalibration"),
    ("predictors.*.nodes.*.recalibration.tenants.*", "recalibrations", "recalibration"),
    ("routes.*.live", "predictors", "predictor"),
    ("routes.*.shadow.*", "predictors", "predictor"),
    ("routes.*.shadow.*.predictor", "predictors", "predictor"),
    ("routes.*.when.tenant", "tenants", "tenant"),
    ("routes.*.when.tenant.*", "tenants", "tenant"),
    ("tenants.*.event", "events", "event format"),
)
"""Where a value is a name: path (`*` is any key or position), the section that declares it, what to call it."""

KEYS: tuple[tuple[str, str, str], ...] = (
    ("predictors.*.quantile_map.tenants", "tenants", "tenant"),
    ("predictors.*.nodes.*.quantile_map.tenants", "tenants", "tenant"),
    ("predictors.*.nodes.*.prior_correction.tenants", "tenants", "tenant"),
    ("predictors.*.nodes.*.recalibration.tenants", "tenants", "tenant"),
    ("routes.*.live", "predictors", "predictor"),
)
"""Where the keys of a mapping are names."""


def name_problems(draft: Draft) -> Iterator[Problem]:
    """Yield a problem for every unknown name."""
    tree = draft.source.tree
    unsure = {section for section in SECTIONS if _unsure(tree, section)}
    for place, section, noun in PLACES:
        if section in unsure:
            continue
        for path, value in _found(tree, place.split("."), ()):
            if isinstance(value, str):
                yield from _unknown(draft, path, section, value, noun)
    for place, section, noun in KEYS:
        for path, value in _found(tree, place.split("."), ()) if section not in unsure else ():
            for key in value if isinstance(value, dict) else ():
                yield from _unknown(draft, (*path, str(key)), section, str(key), noun)
    if "events" not in unsure and not any(_strange(one, EventSpec) for one in tree["events"].values()):
        yield from _attributes(draft, tree)


def _unsure(tree: Any, section: str) -> bool:
    """Say whether a section is missed, or is no section: what is declared is not known then, and it has been said."""
    if not isinstance(tree, dict):
        return True
    if section in tree:
        return not isinstance(tree[section], dict)
    return Document.model_fields[section].is_required() or _strange(tree, Document)


def _strange(node: Any, kind: type[SpecModel]) -> bool:
    """Say whether a mapping has a key that its class does not know, which may be another one misspelt."""
    known = {field.alias or name for name, field in kind.model_fields.items()}
    return isinstance(node, dict) and not known.issuperset(map(str, node))


def _found(node: Any, place: list[str], path: YamlPath) -> Iterator[tuple[YamlPath, Any]]:
    """Yield every path of the file that fits `place`, and what is there."""
    if not place:
        yield path, node
        return
    items: list[tuple[YamlKey, Any]] = []
    if isinstance(node, dict):
        items = [(str(key), below) for key, below in node.items() if place[0] in {"*", key}]
    elif isinstance(node, list) and place[0] == "*":
        items = list(enumerate(node))
    for step, below in items:
        yield from _found(below, place[1:], (*path, step))


def _unknown(draft: Draft, path: YamlPath, section: str, name: str, noun: str) -> Iterator[Problem]:
    if name not in draft.declared[section]:
        hint = nearest(name, draft.declared[section]) or f"declare it under `{section}`"
        yield draft.source.problem(path, f"unknown {noun} '{name}'", hint)


def _attributes(draft: Draft, tree: Any) -> Iterator[Problem]:
    declared = {"tenant"}
    for _, intent in _found(tree, ["events", "*", "intent"], ()):
        declared |= {str(name) for name in intent} if isinstance(intent, dict) else set()
    for path, _ in _found(tree, ["routes", "*", "when", "*"], ()):
        attribute = str(path[-1])
        if attribute not in declared:
            message = f"no event format has the intent attribute '{attribute}'"
            yield draft.source.problem(path, message, nearest(attribute, declared))
