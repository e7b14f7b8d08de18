"""What an operator writes about one ONNX model: where it is, what it reads, what it answers.

A model is identified by its bytes (sha256), never by its file name; every input is bound by name, every feature in
order.
"""

from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from muse_stream.config.fields import FieldPath, Flag, Integer, Name, Number, Sha256, SpecModel, Text, fault


class FeatureSpec(SpecModel):
    """One feature: which field of the event it is, and what happens when that field is missing."""

    field: FieldPath
    """Dotted path of the event field, for example `terminal.risk_7d`."""
    default: Number | None = None
    """Number used when the field is null or missing; without it the feature is NaN."""
    required: Flag = False
    """True: an event without this field becomes a dead letter. Not together with `default`."""
    categories: Name | None = None
    """Table under `categories` that turns the strings of this field into numbers."""

    @model_validator(mode="after")
    def _one_answer_to_missing(self) -> Self:
        if self.required and self.default is not None:
            raise fault(
                "both `default` and `required` are given", "keep one: a default fills the gap, required refuses it"
            )
        return self


def _feature(value: object) -> object:
    return {"field": value} if isinstance(value, str) else value


def _one_or_many(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


Feature = Annotated[FeatureSpec, BeforeValidator(_feature, json_schema_input_type=FieldPath | FeatureSpec)]
"""A feature, or short: the name of its field."""

Features = Annotated[
    tuple[Feature, ...],
    Field(min_length=1),
    BeforeValidator(
        _one_or_many,
        json_schema_input_type=FieldPath | FeatureSpec | Annotated[list[FieldPath | FeatureSpec], Field(min_length=1)],
    ),
]
"""The features of one ONNX input in order, or short: the only one."""


class OutputSpec(SpecModel):
    """Which output of the model is the probability."""

    name: Text
    """Name of the ONNX output."""
    positive: Annotated[Integer, Field(ge=0)] = 1
    """Column of the positive class: 1 in a `[N, 2]` output, 0 in a `[N]` or `[N, 1]` output."""


class GoldenSpec(SpecModel):
    """Rows with the author's own answers, against which `check` compares the model."""

    file: Text
    """JSON file with the rows, relative to this document."""
    tolerance: Annotated[Number, Field(gt=0, lt=1)] = 1e-6
    """Largest absolute difference that is accepted."""


class ModelSpec(SpecModel):
    """One ONNX model, pinned by its hash."""

    uri: Text
    """File, relative to this document; never outside its folder."""
    sha256: Sha256
    """SHA-256 of the file: 64 hexadecimal digits in lower case, as `sha256sum` prints it."""
    inputs: Annotated[dict[Text, Features], Field(min_length=1)]
    """ONNX input name to its features in order: several make a `[N, F]` tensor, one makes `[N, 1]`. Of a meta-model
    (one that aggregates experts): names for the experts' scores, in the order of the experts."""
    output: OutputSpec
    """Which output is the probability of the positive class."""
    golden: GoldenSpec | None = None
    """Optional rows with answers of the model's author."""

    def features(self) -> tuple[FeatureSpec, ...]:
        """Return all features, input by input."""
        return tuple(feature for features in self.inputs.values() for feature in features)
