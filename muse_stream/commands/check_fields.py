"""Do the events have what the configuration reads from them?

A draft of a document and the schemas folder give a problem for every id, time, tenant, attribute and feature that an
event schema lacks, or has in a type that cannot serve. Each use is checked by itself, so that all are reported; only
predictors that an event format can reach count.
"""

from collections.abc import Iterator, Mapping

from muse_stream.avro import Decoder, Fields, Schema, SchemaDirectory, column_type
from muse_stream.config import Document, Draft, EventSpec, FeatureSpec, YamlPath
from muse_stream.errors import Problem, SchemaError
from muse_stream.scoring import Model, reachable


def schema_problems(draft: Draft, schemas: SchemaDirectory, models: Mapping[str, Model]) -> list[Problem]:
    """Return what the events of these schemas lack of what the document reads from them; `models` are those loaded."""
    problems: list[Problem] = []
    for name, spec in draft.document.events.items():
        try:
            schema = schemas.by_file(spec.schema_file)
        except SchemaError as error:
            if schemas.holds(spec.schema_file):
                problems.append(draft.problem(("events", name, "schema"), str(error), "an event is a record"))
            continue  # where there is no such file, the document's own check has said so
        problems += _parts(draft, schemas, schema, name, spec)
        problems += _features(draft, schema, name, models)
    return problems


def _parts(draft: Draft, schemas: SchemaDirectory, schema: Schema, event: str, spec: EventSpec) -> Iterator[Problem]:
    """Check id, time, tenant and intent attributes, one decoder each: a decoder stops at its first fault."""
    sound = _sound_id(schema)
    wanted: list[tuple[YamlPath, Fields]] = [(("id",), Fields(spec.id))]
    if spec.time is not None:
        wanted.append((("time",), Fields(sound, time=spec.time)))
    if spec.tenant is not None and spec.tenant.field is not None:
        wanted.append((("tenant", "field"), Fields(sound, tenant=spec.tenant.field)))
    for name, source in spec.intent.items():
        if source.field is not None:
            wanted.append((("intent", name, "field"), Fields(sound, columns=(source.field,))))
    for step, fields in wanted:
        try:
            Decoder(schemas, schema, fields)
        except SchemaError as error:
            yield draft.problem(("events", event, *step), str(error), f"the schema is {schema.file}")


def _sound_id(schema: Schema) -> str:
    """Return a field that could be an id, so that the other parts can be checked though the id itself is wrong."""
    for field in schema.type.fields:
        try:
            if column_type(schema.type, field.name)[0] in ("text", "integer"):
                return field.name
        except SchemaError:
            continue
    return schema.type.fields[0].name if schema.type.fields else ""


def _features(draft: Draft, schema: Schema, event: str, loaded: Mapping[str, Model]) -> Iterator[Problem]:
    for place, feature in features_of(draft.document, event):
        name, port = str(place[1]), str(place[3])
        texts = {one.name: one.dtype.kind == "O" for one in loaded[name].inputs} if name in loaded else {}
        fault = _fault(schema, feature, texts.get(port))
        if fault is not None:
            message, hint = fault
            yield draft.problem(place, f"events of format '{event}' ({schema.file}): {message}", hint)


def features_of(document: Document, event: str) -> Iterator[tuple[YamlPath, FeatureSpec]]:
    """Yield the features that models read of events of a format, with their places; of models that exist."""
    graphs = document.graphs()
    routes = reachable(document, event)
    predictors = dict.fromkeys(
        [name for route in routes for name in route.live_shares]
        + [one.predictor for route in routes for one in route.shadow]
    )
    for name in dict.fromkeys(model for one in predictors if one in graphs for model in graphs[one].experts()):
        spec = document.models.get(name)
        for port, features in spec.inputs.items() if spec is not None else ():
            for place, feature in enumerate(features):
                yield ("models", name, "inputs", port, place), feature


def _fault(schema: Schema, feature: FeatureSpec, strings: bool | None) -> tuple[str, str] | None:
    """Return what is wrong with a feature; `strings`: whether the model takes strings there, None if nobody knows."""
    try:
        domain, _, _ = column_type(schema.type, feature.field)
    except SchemaError as error:
        return str(error), "name a field of the schema, by its dotted path"
    if strings:
        if domain in ("text", "integer"):
            return None
        return f"{feature.field} is a {domain}, and the model takes strings", "name a string, enum or integer field"
    if domain == "text" and feature.categories is None and strings is not None:
        return f"{feature.field} is text", "give it a table: `categories: NAME`"
    if domain == "number" and feature.categories is not None:
        message = f"{feature.field} is a number with fractions, and a category table is for text, integers and booleans"
        return message, "leave `categories` out"
    return None
