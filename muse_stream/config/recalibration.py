"""Recalibration curves: what a document says of one, read, verified, and matched with the nodes that use it.

A file is used only when its bytes have the pinned sha256, and a curve only where its `fitted_for` equals the content
hash of the predictor before the node, as it is with quantile maps.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from muse_stream.config.fields import Integer, Levels, Name, Sha256, SpecModel, Text, Values, fault


class FileRecalibration(SpecModel):
    """A curve in a JSON file, as `Recalibration.to_json` gives it."""

    file: Text
    """JSON file, relative to this document."""
    sha256: Sha256
    """SHA-256 of the file: 64 hexadecimal digits in lower case."""


class InlineRecalibration(SpecModel):
    """A curve from scores to probabilities, straight between its points, that was fitted to labelled events."""

    fitted_for: Sha256
    """Content hash of the predictor up to the node's input; `muse-stream check --json` has it."""
    method: Literal["isotonic", "beta"] = "isotonic"
    """How it was fitted."""
    scores: Levels
    """Scores, strictly increasing in [0, 1], at least two."""
    probabilities: Values
    """Probabilities at these scores, never decreasing in [0, 1], as many as scores."""
    samples: Annotated[Integer, Field(ge=2)]
    """How many labelled events it was fitted on."""
    positives: Annotated[Integer, Field(ge=1)]
    """How many of them were positive."""
    fitted_on: tuple[Name, ...] = ()
    """Tenants whose events these were, where that is known."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.scores) != len(self.probabilities):
            message = f"{len(self.scores)} scores but {len(self.probabilities)} probabilities"
            raise fault(message, "give one probability per score")
        if self.positives >= self.samples:
            raise fault(f"{self.positives} positives of {self.samples} samples", "both classes were there")
        return self


def _form(value: Any) -> str:
    given = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return "form:file" if "file" in given else "form:inline"


RecalibrationSpec = Annotated[
    Annotated[FileRecalibration, Tag("form:file")] | Annotated[InlineRecalibration, Tag("form:inline")],
    Discriminator(_form),
]
"""A recalibration curve, in a file or inline."""
