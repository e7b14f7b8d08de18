"""Does each model load, does it answer what its author says, and is there anything odd about it?

A draft of a document gives the models that loaded, by name; what is wrong is added to the problems. `oddities` are
warnings: a model without golden rows, one that gives one answer to everything, one that must be run row by row, and a
column that is named by its number though the file names its classes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from muse_stream.config import Draft, ModelSpec, NotAllowed, locate
from muse_stream.errors import ConfigError, ModelError, Problem
from muse_stream.models import ModelCache, OnnxModel, check_golden, read_golden
from muse_stream.runtime.compile import load_model_of
from muse_stream.scoring import tensors_of


def load_all(draft: Draft, root: Path, cache: ModelCache, problems: list[Problem]) -> dict[str, OnnxModel]:
    """Load all models, used or not, and compare them with their golden rows; what is wrong is added to `problems`."""
    models: dict[str, OnnxModel] = {}
    for name, spec in draft.document.models.items():
        try:
            models[name] = load_model_of(root, spec, cache, draft.document.limits.model_bytes)
        except ModelError as error:
            if not any(problem.path == f"models.{name}" for problem in problems):  # that it is another file, say
                problems.append(draft.problem(("models", name), str(error)))
        except NotAllowed:
            continue  # the document's own check has said so
    problems += [
        draft.problem(("models", name, "golden"), message)
        for name, model in models.items()
        if (message := _golden_fault(draft, root, name, model)) is not None
    ]
    return models


def _golden_fault(draft: Draft, root: Path, name: str, model: OnnxModel) -> str | None:
    spec = draft.document.models[name].golden
    if spec is None:
        return None
    try:
        golden = read_golden(locate(root, spec.file).read_bytes())
        tensors = tensors_of(draft.document, name, model)
        check_golden(model, golden, spec.tolerance, spec.differing, tensors)
    except ModelError as error:
        return str(error)
    except (NotAllowed, OSError, ConfigError, KeyError):
        pass  # the document's own check has said so, or the compilation will
    return None


def oddities(draft: Draft, models: Mapping[str, OnnxModel]) -> Iterator[Problem]:
    """Yield what is allowed and probably not meant, or worth knowing."""
    for name, model in models.items():
        spec = draft.document.models[name]
        for step, message, hint in _odd(name, spec, model):
            yield draft.problem(("models", name, *step), message, hint)


def _odd(name: str, spec: ModelSpec, model: OnnxModel) -> Iterator[tuple[tuple[str, ...], str, str]]:
    if spec.golden is None:
        message = "no golden rows: nothing tells whether the export answers as the trained model does"
        hint = f"write them from its own predictions: `muse-stream golden CONFIG {name} TABLE --column SCORE`"
        yield (), message, hint
    if model.constant is not None:
        message = f"answers {model.constant:g} to every row that was tried, whatever is in it"
        yield ("output",), message, "is it the right output, and was the export complete?"
    if model.one_by_one:
        message = "runs row by row, because the last bits of a row's answer depend on its place in a batch"
        yield (), message, "expect some 50,000 rows a second at most; boosted trees and networks have no such limit"
    named = _named_classes(model)
    if named and spec.output.positive is not None and all(isinstance(one, int) for one in spec.output.positive):
        chosen = ", ".join(repr(named[column]) for column in model.columns)
        yield ("output", "positive"), f"column {_numbers(model)} is the class {chosen}", "name the class by its label"


def _named_classes(model: OnnxModel) -> tuple[str | int, ...]:
    """Return the classes of the output where they are texts, not numbers."""
    classes = model.classes or ()
    return classes if any(not str(one).lstrip("-").isdigit() for one in classes) else ()


def _numbers(model: OnnxModel) -> str:
    return ", ".join(map(str, model.columns))
