"""Texts in a configuration that no event has, by the types of the fields.

A document and its schemas give a warning for each value of a route's condition, and each entry of a category table,
that is the text of no value of its fields: `mcc: "5411.0"` where mcc is an int, whose text is its digits. Conditions on
closed sets of values (enums, booleans) are the routes' proof's (`config.totality`).
"""

from collections.abc import Collection, Iterator

from muse_stream.avro import SchemaDirectory, Type, can_be, column_type, in_words
from muse_stream.commands.check_fields import features_of
from muse_stream.config import Document, Draft, Source
from muse_stream.errors import Problem, SchemaError

OTHERS = "*"
"""In a category table, all other texts."""


def text_warnings(
    draft: Draft, schemas: SchemaDirectory, closed: Collection[tuple[str, str]], source: Source
) -> Iterator[Problem]:
    """Yield the warnings; `closed` are the attributes, by event format, of a closed set of values."""
    yield from _conditions(draft.document, schemas, closed, source)
    yield from _categories(draft.document, schemas, source)


def _conditions(
    document: Document, schemas: SchemaDirectory, closed: Collection[tuple[str, str]], source: Source
) -> Iterator[Problem]:
    for position, route in enumerate(document.routes):
        for attribute, values in route.when.items():
            leaves = _leaves(document, schemas, attribute, closed)
            for value in values if leaves else ():
                if not any(can_be(leaf, value) for leaf in leaves):
                    hint = f"the text of its type, {in_words(leaves[0])}"
                    place = ("routes", position, "when", attribute)
                    yield source.problem(place, f"no event has {attribute} = '{value}'", hint)


def _leaves(
    document: Document, schemas: SchemaDirectory, attribute: str, closed: Collection[tuple[str, str]]
) -> list[Type]:
    """Return the types that an attribute has in the formats that tenants use; none where it may be any text."""
    found: list[Type] = []
    told = True
    for event in _sent(document):
        spec = document.events.get(event)
        origin = spec.intent.get(attribute) if spec else None
        if spec is None or origin is None:
            continue
        if origin.field is None:
            return []
        told &= (event, attribute) in closed
        try:
            found.append(column_type(schemas.by_file(spec.schema_file).type, origin.field, "text")[2])
        except SchemaError:
            return []
    return [] if told else found


def _categories(document: Document, schemas: SchemaDirectory, source: Source) -> Iterator[Problem]:
    fields: dict[str, dict[str, list[Type]]] = {name: {} for name in document.categories}
    for event in _sent(document):
        for _, feature in features_of(document, event):
            if feature.categories not in fields:
                continue
            try:
                leaf = column_type(schemas.by_file(document.events[event].schema_file).type, feature.field, "text")[2]
            except (KeyError, SchemaError):
                return  # said elsewhere
            fields[feature.categories].setdefault(feature.field, []).append(leaf)
    for name, found in fields.items():
        leaves = [leaf for some in found.values() for leaf in some]
        for key in document.categories[name] if leaves else ():
            if key != OTHERS and not any(can_be(leaf, key) for leaf in leaves):
                hint = f"the text of its type, {in_words(leaves[0])}" if in_words(leaves[0]) else "a symbol of its enum"
                message = f"no event has {' or '.join(found)} = '{key}'"
                yield source.problem(("categories", name, key), message, hint)


def _sent(document: Document) -> list[str]:
    """Return the event formats that tenants send."""
    return list(dict.fromkeys(tenant.event for tenant in document.tenants.values()))
