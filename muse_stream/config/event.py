"""Event formats: where in an Avro event, its headers or its topic the id, time, tenant and intent are found.

`EventSpec` is what stands under `events.<name>`; any number of tenants share one. An intent attribute comes from
exactly one place; the attribute `tenant` is always there and never declared.
"""

from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from muse_stream.config.fields import AttributeName, FieldPath, SpecModel, Text, Year, fault


class AttributeSource(SpecModel):
    """Where an attribute's value is found: exactly one of the three."""

    field: FieldPath | None = None
    """Dotted path of a field of the event; its text form counts (docs/avro.md)."""
    header: Text | None = None
    """Name of a Kafka header, read as UTF-8."""
    value: str | None = None
    """A constant."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            raise fault(
                f"{' and '.join(given) if given else 'nothing'} given", "give exactly one of field, header, value"
            )
        return self


def _not_constant(source: AttributeSource) -> AttributeSource:
    if source.value is not None:
        raise fault("a tenant cannot be a constant", "use {field: NAME} or {header: NAME}, or leave `tenant` out")
    return source


def _no_tenant(intent: dict[str, AttributeSource]) -> dict[str, AttributeSource]:
    if "tenant" in intent:
        raise fault("`tenant` is always an attribute", "remove it here; give its place beside `intent` as `tenant:`")
    return intent


def _passed_on(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise fault(f"'{twice[0]}' stands in it twice", "keep one of them")
    if ours := [name for name in names if name.startswith("muse.")]:
        raise fault(f"'{ours[0]}' begins with muse., as muse-stream's own headers do", "name headers of the events")
    return names


def _first_and_last(years: tuple[int, ...]) -> tuple[int, ...]:
    right = "give the first and the last year, for example [2000, 2100]"
    if len(years) != 2:
        raise fault(f"{len(years)} years", right)
    if years[0] > years[1]:
        raise fault(f"{years[0]} is after {years[1]}", right)
    return years


SchemaIds = Literal["folder", "registry"]
SubjectNames = Literal["topic_name", "record_name", "topic_record_name"]
TimeUnit = Literal["s", "ms", "us", "ns"]
TimeOutside = Literal["dead_letter", "kafka_timestamp"]


class EventSpec(SpecModel):
    """One event format."""

    schema_file: Text = Field(alias="schema")
    """Reader schema: an .avsc file in the `schemas` folder."""
    schema_ids: SchemaIds = "folder"
    """Where the schemas are found that events were written with: folder, the `schemas` folder and its `ids.json`; or
    registry, the Schema Registry that MUSE_REGISTRY_URL names, and for single-object frames the folder as well."""
    subjects: SubjectNames = "topic_name"
    """How producers name the subjects of this format in the registry: topic_name, `<topic>-value`; record_name, the
    record's full name; or topic_record_name, `<topic>-<full name>`."""
    id: FieldPath
    """Field with the event's id; an event without one becomes a dead letter."""
    time: FieldPath | None = None
    """Field with the event time; without it, and where it is null, the Kafka timestamp counts."""
    time_unit: TimeUnit = "ms"
    """What the time counts since 1970 where its schema gives it no logical type: s, ms, us or ns."""
    time_range: Annotated[tuple[Year, ...], Field(min_length=2), AfterValidator(_first_and_last)] = (2000, 2100)
    """First and last year that an event may be of, for example [2000, 2100]."""
    time_outside: TimeOutside = "dead_letter"
    """What becomes of an event of another year: dead_letter, or kafka_timestamp to take that time instead."""
    tenant: Annotated[AttributeSource, AfterValidator(_not_constant)] | None = None
    """Where the tenant is found. On a tenant's own topic it must agree with the topic; on a shared topic it decides."""
    intent: Annotated[dict[AttributeName, AttributeSource], AfterValidator(_no_tenant)] = Field(default_factory=dict)
    """The attributes that routes may ask for, and where each is found."""
    headers: Annotated[tuple[Text, ...], AfterValidator(_passed_on)] = ()
    """Names of Kafka headers of an event that its score and audit records get, too, such as [traceparent]."""

    @model_validator(mode="after")
    def _subjects_of_the_registry(self) -> Self:
        if self.subjects != "topic_name" and self.schema_ids == "folder":
            raise fault("`subjects` has no effect without the registry", "add `schema_ids: registry`, or remove it")
        return self
