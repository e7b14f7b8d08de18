"""Can the events that producers write be read, and as what?

A draft of a document and the schemas folder give problems and warnings about every writer of each event format: what
can never be read, what is read slowly, what a number means. A file of the folder counts as a writer of a format if its
record has the name of the format's schema.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from muse_stream.avro import (
    IN_WORDS,
    Decoder,
    Fields,
    Schema,
    SchemaDirectory,
    Unreadable,
    ambiguous,
    column_type,
    last_year,
    slow_because,
)
from muse_stream.commands.check_fields import features_of
from muse_stream.config import Draft, EventSpec, YamlPath
from muse_stream.errors import Problem, RegistryError, SchemaError
from muse_stream.schema_registry import open_registry, subjects_of

LOST = "events written with it become dead letters"


@dataclass(slots=True)
class Findings:
    """What was found: problems refuse a configuration, warnings do not."""

    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Format:
    """One event format, with the decoder that its events would get."""

    name: str
    spec: EventSpec
    schema: Schema
    decoder: Decoder


def writer_findings(draft: Draft, schemas: SchemaDirectory) -> Findings:
    """Return what is to be said about the writers of all event formats."""
    found = Findings()
    formats = [one for name, spec in draft.document.events.items() if (one := _format(draft, schemas, name, spec))]
    for kind in formats:
        others = [other for other in formats if other is not kind]
        for file in schemas.files():
            _writer(draft, kind, schemas.by_file(file), others, found)
        _registered(draft, kind, others, found)
        never = list(_never_in_range(draft, kind))
        found.problems += never
        found.warnings += [*_twins(draft, kind, schemas), *([] if never else _time(draft, kind)), *_dates(draft, kind)]
    found.warnings += _folder(draft, schemas)
    return found


def _format(draft: Draft, schemas: SchemaDirectory, name: str, spec: EventSpec) -> _Format | None:
    """Return the format; None where its fields are wrong, which `check_fields` says."""
    try:
        schema = schemas.by_file(spec.schema_file)
        features = dict.fromkeys(feature.field for _, feature in features_of(draft.document, name))
        texts = dict.fromkeys(source.field for source in spec.intent.values() if source.field is not None)
        tenant = spec.tenant.field if spec.tenant is not None else None
        fields = Fields(spec.id, spec.time, tenant, tuple(features), tuple(texts), spec.time_unit)
        return _Format(name, spec, schema, Decoder(schemas, schema, fields))
    except SchemaError:
        return None


def _writer(draft: Draft, kind: _Format, writer: Schema, others: Iterable[_Format], found: Findings) -> None:
    place = ("events", kind.name, "schema")
    reader = kind.schema
    if writer.type.name not in (reader.type.name, *reader.type.aliases):
        if _another_name(kind, writer):
            message = f"{writer.file} has this format's fields, but is a {writer.name}, not a {reader.name}: {LOST}"
            hint = f"if they are the same, give {reader.name} the alias {writer.type.name} in {reader.file}"
            found.warnings.append(draft.problem(place, message, hint))
        return
    for one in kind.decoder.unreadable(writer):
        if not one.whole:
            message = f"{writer.file}: some of the events written with it become dead letters: {one.why}"
            found.warnings.append(draft.problem(place, message))
            continue
        of_another = writer.name != reader.name or any(_reads(other, writer) for other in others)
        message = f"{writer.file} can never be read as {reader.file}, so {LOST}: {one.why}"
        hint = f"{_remedy(kind, one)}, or take {writer.file} away if nothing is written with it"
        (found.warnings if of_another else found.problems).append(draft.problem(place, message, hint))
    if writer is not reader and (unit := _unit_of_the_reader(kind, writer)):
        message = f"{kind.spec.time} has no logical type in {writer.file}: it is taken for the reader's {unit}"
        found.warnings.append(draft.problem(place, message, "see that events written with it count the same"))
    if because := slow_because(writer):
        message = f"{writer.file} is decoded record by record, which takes about ten times the CPU: {because}"
        found.warnings.append(draft.problem(place, message))


def _registered(draft: Draft, kind: _Format, others: Iterable[_Format], found: Findings) -> None:
    """Say what is to be said of the versions that the registry has. They may change, so none refuses a configuration.

    A reader's schema alone can be put right here, so what cannot be read is said all the same.
    """
    if kind.spec.schema_ids == "folder":
        return
    place = ("events", kind.name, "schema_ids")
    registry = open_registry()
    if registry is None:
        found.warnings.append(draft.problem(place, "no Schema Registry is named", "set MUSE_REGISTRY_URL for workers"))
        return
    in_registry = Findings()
    try:
        for writer in registry.subjects(subjects_of(draft.document, kind.name, kind.schema.name)):
            _writer(draft, kind, writer, others, in_registry)
    except RegistryError as error:
        hint = "`muse-stream doctor` says more; workers go on with the schemas that they know"
        found.warnings.append(draft.problem(place, f"its schemas could not be looked at: {error}", hint))
    found.warnings += [*in_registry.problems, *in_registry.warnings]


def _remedy(kind: _Format, one: Unreadable) -> str:
    if not one.lacks:
        return f"give the field a type in {kind.schema.file} that what is written can be read as"
    if one.path == kind.spec.id:
        return "have it written: no default makes an id"
    return f"give the field a default in {kind.schema.file}"


def _unit_of_the_reader(kind: _Format, writer: Schema) -> str:
    """Return the logical type that a writer's time gets from the reader's, where it has none of its own."""
    path = kind.spec.time
    if path is None or "time_unit" in kind.spec.model_fields_set:
        return ""
    try:
        leaves = [column_type(schema.type, path, "time")[2] for schema in (kind.schema, writer)]
    except SchemaError:  # under another name, or not there
        return ""
    stated, written = ([one.logical for one in leaf.options if one.kind != "null"] for leaf in leaves)
    return next((name for name in stated if name), "") if None in written else ""


def _another_name(kind: _Format, writer: Schema) -> bool:
    """Say whether nothing but its name keeps a writer from being read."""
    reader = kind.schema.type
    renamed = replace(writer, type=replace(writer.type, name=reader.name, full_name=reader.full_name))
    return not any(one.whole for one in kind.decoder.unreadable(renamed))


def _reads(kind: _Format, writer: Schema) -> bool:
    return not any(one.whole for one in kind.decoder.unreadable(writer))


def _twins(draft: Draft, kind: _Format, schemas: SchemaDirectory) -> Iterator[Problem]:
    for writers in schemas.twins():
        try:
            alike = kind.decoder.alike(writers)
        except SchemaError:  # of another format, or said already
            continue
        if not alike:
            message = f"{ambiguous(writers)}, and events in single-object frames become dead letters"
            yield draft.problem(("events", kind.name, "schema"), message, "keep one of them, or write Confluent frames")


def _time(draft: Draft, kind: _Format) -> Iterator[Problem]:
    path = kind.spec.time
    if path is None or "time_unit" in kind.spec.model_fields_set:
        return
    _, _, leaf = column_type(kind.schema.type, path, "time")
    if any(option.logical is None for option in leaf.options if option.kind != "null"):
        message = f"{path} has no logical type in {kind.schema.file}: it is taken for milliseconds since 1970"
        typed = '"type": {"type": "long", "logicalType": "timestamp-millis"}'  # beside "type" it means nothing
        hint = f"give it a logical type, as in {typed}, or say `time_unit`: s, ms, us or ns"
        yield draft.problem(("events", kind.name, "time"), message, hint)


def _never_in_range(draft: Draft, kind: _Format) -> Iterator[Problem]:
    """Yield a problem where the largest number that the time can hold is before the first year that is allowed."""
    path, (first, _) = kind.spec.time, kind.spec.time_range
    if path is None:
        return
    _, _, leaf = column_type(kind.schema.type, path, "time")
    ends = [last_year(option, kind.spec.time_unit) for option in leaf.options if option.kind != "null"]
    if max(ends) < first:
        message = (
            f"{path} ends in the year {max(ends)}, and time_range begins with {first}: every event is a dead letter"
        )
        hint = "give it the type long, or say another `time_unit`: s, ms, us or ns"
        yield draft.problem(("events", kind.name, "time"), message, hint)


def _dates(draft: Draft, kind: _Format) -> Iterator[Problem]:
    for place, feature in features_of(draft.document, kind.name):
        _, _, leaf = column_type(kind.schema.type, feature.field)
        counted = {option.logical: IN_WORDS[option.logical] for option in leaf.options if option.logical in IN_WORDS}
        if counted:
            message = f"{feature.field} is a {' or '.join(counted)}: the model reads {' or '.join(counted.values())}"
            yield draft.problem(place, message, "the number as it is written; see that the model was trained on it")


def _folder(draft: Draft, schemas: SchemaDirectory) -> Iterator[Problem]:
    place: YamlPath = ("schemas",)
    for why in schemas.broken().values():
        yield draft.source.problem(place, f"{why}; {LOST}", "correct the file, or take it away")
