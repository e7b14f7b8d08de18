"""What an operator writes about one ONNX model: where it is, what it reads, what it answers.

A model is identified by its bytes (sha256), never by its file name; every input is bound by name, every feature in
order.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Strict, Tag, model_validator

from muse_stream.config.fields import FieldPath, Flag, Integer, Name, Number, Sha256, SpecModel, Text, fault


class FeatureSpec(SpecModel):
    """One feature: which field of the event it is, and what happens when that field is missing."""

    field: FieldPath
    """Dotted path of the event field, for example `terminal.risk_7d`."""
    default: Number | Annotated[str, Strict()] | None = None
    """Used when the field is null or missing: a number, or a text where the model takes strings. Without it the feature
    is NaN; a model's integer, boolean or string inputs have no NaN, so they take a default, or `required`."""
    required: Flag = False
    """True: an event without this field becomes a dead letter. Not together with `default`."""
    categories: Name | None = None
    """Table under `categories` that turns the values of this field (strings, integers, booleans) into numbers."""

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


class ColumnOf(SpecModel):
    """A column of the output, where the number alone could be a class label too."""

    column: Annotated[Integer, Field(ge=0)]
    """Number of the column, from 0."""


class LabelOf(SpecModel):
    """A class by its label, where the label alone could be the number of a column too."""

    label: Integer | Text
    """The label as the model was trained with it."""


def _class_form(value: Any) -> str:
    if isinstance(value, dict):
        return "form:label" if "label" in value else "form:column"
    if isinstance(value, ColumnOf | LabelOf):
        return "form:column" if isinstance(value, ColumnOf) else "form:label"
    return "form:text" if isinstance(value, str) else "form:integer"


ClassChoice = Annotated[
    Annotated[Integer, Tag("form:integer")]
    | Annotated[Text, Tag("form:text")]
    | Annotated[ColumnOf, Tag("form:column")]
    | Annotated[LabelOf, Tag("form:label")],
    Discriminator(_class_form),
]
"""A class: its label, or the number of its column; `{label: ...}` or `{column: ...}` where it could be either."""


def _each_once(classes: tuple[ClassChoice, ...]) -> tuple[ClassChoice, ...]:
    if len(set(classes)) < len(classes):
        raise fault("a class is named twice", "name each class once: their probabilities are summed")
    return classes


Positive = Annotated[
    tuple[ClassChoice, ...],
    Field(min_length=1),
    BeforeValidator(
        _one_or_many, json_schema_input_type=ClassChoice | Annotated[list[ClassChoice], Field(min_length=1)]
    ),
    AfterValidator(_each_once),
]
"""The positive class, or a list of classes whose probabilities are summed."""


class OutputSpec(SpecModel):
    """Which output of the model is the probability, and how it becomes one."""

    name: Text
    """Name of the ONNX output; of a ZipMap's (the usual export of scikit-learn, LightGBM and CatBoost), too."""
    positive: Positive | None = None
    """The positive class of an output with several columns: a label, the number of a column (from 0), or a list of them
    to be summed. Without it: the only column; or of two columns the second, unless the file names classes other than 0
    and 1."""
    link: Literal["sigmoid", "softmax"] | None = None
    """For a model that answers margins (logits): the function that makes probabilities of them."""
    scale: tuple[Number, Number] | None = None
    """For a model that answers a score on another scale: the two values that mean 0 and 1, such as `[0, 1000]`. The
    first may be the greater: of an IsolationForest the low values are the anomalies."""

    @model_validator(mode="after")
    def _one_transformation(self) -> Self:
        if self.link is not None and self.scale is not None:
            raise fault("both `link` and `scale` are given", "give one: what a link answers is a probability already")
        if self.scale is not None and self.scale[0] == self.scale[1]:
            raise fault("both ends of the scale are equal", "give the value that means 0 and the one that means 1")
        if self.link == "sigmoid" and self.positive is not None and len(self.positive) > 1:
            raise fault("several classes with a sigmoid", "sum classes of a softmax, or name one class")
        return self


class GoldenSpec(SpecModel):
    """The author's own answers to some events or rows, against which `check` compares the model."""

    file: Text
    """JSON file with them, relative to this document; `muse-stream golden` writes one."""
    tolerance: Annotated[Number, Field(gt=0, lt=1)] = 1e-6
    """Largest absolute difference that is accepted."""
    differing: Annotated[Number, Field(ge=0, lt=1)] = 0.0
    """Share of the rows that may differ by more: an exporter rounds thresholds to float32, which moves a few."""


class DataSpec(SpecModel):
    """The file in which an ONNX model keeps its tensors (external data), pinned by its hash."""

    file: Text
    """File, relative to this document, never outside its folder; or a URL, as of the model itself."""
    sha256: Sha256
    """SHA-256 of the file: 64 hexadecimal digits in lower case."""


class ModelSpec(SpecModel):
    """One ONNX model, pinned by its hash."""

    uri: Text
    """File, relative to this document, never outside its folder; or a URL that fsspec reads (s3, gs, https), which is
    fetched when the document is checked or published."""
    sha256: Sha256
    """SHA-256 of the file: 64 hexadecimal digits in lower case, as `sha256sum` prints it."""
    data: DataSpec | None = None
    """The file with the model's tensors, where it keeps them outside (external data, the usual export of torch)."""
    inputs: Annotated[dict[Text, Features], Field(min_length=1)]
    """ONNX input name to its features in order: several make a `[N, F]` tensor, one makes `[N, 1]` or `[N]`. Of a
    meta-model (one that aggregates experts): names for the experts' scores, in the order of the experts."""
    output: OutputSpec
    """Which output is the probability of the positive class."""
    golden: GoldenSpec | None = None
    """Answers of the model's author; without them nothing tells a wrong export from a right one."""
    backend: Literal["auto", "onnxruntime", "compiled"] = "onnxruntime"
    """What runs it: onnxruntime; tree ensembles as native code where that can be done, and onnxruntime otherwise
    (`auto`); or native code, and the document is refused where the file rules it out. The bits are the same."""

    def features(self) -> tuple[FeatureSpec, ...]:
        """Return all features, input by input."""
        return tuple(feature for features in self.inputs.values() for feature in features)
