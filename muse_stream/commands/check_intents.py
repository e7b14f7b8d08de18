"""Which values an intent attribute can have.

A loaded document and its schemas give, per event format and attribute, the closed set of values where the Avro schema
has one (an enum, with null if it may be); anything else is open and left out. A set is only called closed when no event
of the format can carry another value.
"""

from muse_stream.avro import SchemaDirectory, column_type
from muse_stream.config import Loaded
from muse_stream.errors import SchemaError

Domain = frozenset[str | None]


def domains(loaded: Loaded) -> dict[tuple[str, str], Domain]:
    """Return the closed domains of the document's attributes; what cannot be read has none."""
    found: dict[tuple[str, str], Domain] = {}
    try:
        schemas = SchemaDirectory.open(loaded.root / loaded.document.schemas)
    except SchemaError:
        return found
    for event, spec in loaded.document.events.items():
        for name, source in spec.intent.items():
            if source.field is None:
                continue
            try:
                _, nullable, leaf = column_type(schemas.by_file(spec.schema_file).type, source.field)
            except SchemaError:
                continue
            kinds = [option for option in leaf.options if option.kind != "null"]
            if [option.kind for option in kinds] == ["enum"]:
                found[event, name] = frozenset({*kinds[0].symbols, *((None,) if nullable else ())})
    return found
