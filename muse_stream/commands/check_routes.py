"""Conditions of routes that no event can meet, by the types of the attributes.

A document and its schemas give a warning for each value of a condition that no event's attribute has as its text:
`mcc: "5411.0"` where mcc is an int, whose text is its digits. Attributes of a closed set of values (enums, booleans)
are the routes' proof's (`config.totality`).
"""

from collections.abc import Collection, Iterator

from muse_stream.avro import SchemaDirectory, Type, can_be, column_type, in_words
from muse_stream.config import Document, Source
from muse_stream.errors import Problem, SchemaError


def condition_warnings(
    document: Document, schemas: SchemaDirectory, closed: Collection[tuple[str, str]], source: Source
) -> Iterator[Problem]:
    """Yield the warnings; `closed` are the attributes, by event format, that others tell of."""
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
    for event in dict.fromkeys(tenant.event for tenant in document.tenants.values()):
        spec = document.events.get(event)
        origin = spec.intent.get(attribute) if spec else None
        if spec is None or origin is None:
            continue
        if origin.field is None or (event, attribute) in closed:
            return []
        try:
            found.append(column_type(schemas.by_file(spec.schema_file).type, origin.field, "text")[2])
        except SchemaError:
            return []
    return found
