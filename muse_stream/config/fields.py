"""The types of the document's fields (names, numbers, hashes, dotted paths, topic templates), and their parent class.

Nothing is coerced. `yes` is a string, "3" is not a number, `true` is not 1, NaN and infinity are refused; a document is
frozen; an unknown key is an error. A refusal carries its own hint (`fault`).
"""

import ast
import inspect
import re
import sys
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    Strict,
    StringConstraints,
)
from pydantic_core import CoreSchema, PydanticCustomError

PLACEHOLDERS = ("namespace", "tenant", "lane")
"""What a topic template may contain, in braces."""

TOPIC_LENGTH = 249
"""Kafka's limit for a topic name."""

_TOPIC_TEXT = re.compile(r"[a-zA-Z0-9._-]*")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def fault(message: str, hint: str = "") -> PydanticCustomError:
    """Return the error that a validator raises: `message` says what is wrong, `hint` what would be right."""
    # The texts travel as context, because pydantic would expand braces (`{tenant}`) in the template itself.
    return PydanticCustomError("muse", "{text}", {"text": message, "hint": hint})


class SpecModel(BaseModel):
    """Parent of all document classes: frozen, closed, every field described by the docstring under it.

    Each is built when it is first used, and docstrings are read when the JSON Schema is asked for: a worker's start
    needs one of these classes and no docstring (docs/decisions/0037).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe each field by the docstring under it."""
        found = handler(schema)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for base in reversed(cls.__mro__):
            for name, text in _docstrings(base).items():
                properties[cls.model_fields[name].alias or name]["description"] = text
        return found


def _docstrings(cls: type) -> dict[str, str]:
    """Return the docstrings under the fields of a document class."""
    return _docstrings_of(cls.__module__)[cls.__name__] if issubclass(cls, SpecModel) else {}


@cache
def _docstrings_of(module: str) -> dict[str, dict[str, str]]:
    """Return the docstrings under the fields of each class of a module, which is parsed once for all of them."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    return {
        node.name: {
            field.target.id: inspect.cleandoc(below.value.value)
            for field, below in pairwise(node.body)
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
            if isinstance(below, ast.Expr)
            if isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


def _template(text: str) -> str:
    for name in _PLACEHOLDER.findall(text):
        if name not in PLACEHOLDERS:
            hint = "a topic may contain {namespace}, {tenant} and {lane}, nothing else"
            raise fault(f"unknown placeholder {{{name}}}", hint)
    rest = _PLACEHOLDER.sub("", text)
    if not _TOPIC_TEXT.fullmatch(rest):
        raise fault(f"'{text}' is not a legal Kafka topic name", "letters, digits, '.', '_' and '-' only")
    return text


def _lane_template(text: str) -> str:
    if "{tenant}" in text:
        hint = "this topic takes events whose tenant is unknown: use {namespace} and {lane} only"
        raise fault("{tenant} is not known here", hint)
    return text


def _within_unit(values: tuple[float, ...]) -> tuple[float, ...]:
    for position, value in enumerate(values):
        if not 0.0 <= value <= 1.0:
            raise fault(f"{value} at position {position} is outside [0, 1]", "every value lies in [0, 1]")
    return values


def _strictly_increasing(values: tuple[float, ...]) -> tuple[float, ...]:
    for position, (before, after) in enumerate(pairwise(values), start=1):
        if after <= before:
            raise fault(
                f"{after} at position {position} does not exceed {before} before it",
                "levels increase strictly, for example [0, 0.5, 1]",
            )
    return values


def _never_decreasing(values: tuple[float, ...]) -> tuple[float, ...]:
    for position, (before, after) in enumerate(pairwise(values), start=1):
        if after < before:
            raise fault(
                f"{after} at position {position} is below {before} before it",
                "values never decrease, for example [0, 0.3, 1]",
            )
    return values


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]
"""Name of a model, predictor, map, reference, event format, lane, tenant or graph node."""

Namespace = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]
"""Name of a fleet. It has no dot, so that it ends with the first one of a group's name."""

AttributeName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$", max_length=100)]
"""Name of an intent attribute."""

FieldPath = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$")]
"""Dotted path of an Avro field, such as `terminal.risk_7d`."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest: 64 hexadecimal digits in lower case."""

Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Integer = Annotated[int, Strict()]
Year = Annotated[int, Strict(), Field(ge=1, le=9999)]
Flag = Annotated[bool, Strict()]
Beta = Annotated[float, Strict(), Field(allow_inf_nan=False, gt=0)]
Weight = Annotated[float, Strict(), Field(allow_inf_nan=False, ge=0)]
Probability = Annotated[float, Strict(), Field(allow_inf_nan=False, ge=0, le=1)]

Prior = Annotated[float, Strict(), Field(allow_inf_nan=False, gt=0, lt=1)]
"""A share of positives."""

Levels = Annotated[
    tuple[Number, ...], Field(min_length=2), AfterValidator(_within_unit), AfterValidator(_strictly_increasing)
]
Values = Annotated[
    tuple[Number, ...], Field(min_length=2), AfterValidator(_within_unit), AfterValidator(_never_decreasing)
]

TopicTemplate = Annotated[str, StringConstraints(min_length=1), AfterValidator(_template)]
LaneTopicTemplate = Annotated[
    str, StringConstraints(min_length=1), AfterValidator(_template), AfterValidator(_lane_template)
]
