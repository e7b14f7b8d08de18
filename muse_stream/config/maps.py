"""Fitted quantile maps and recalibrations: read, verified, and matched with the predictors that use them.

A file is used only when its bytes have the pinned sha256. What was fitted is used only where its `fitted_for` equals
the content hash of the predictor before the node: a map fitted for another version is refused, never misapplied.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from graphlib import CycleError
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import numpy as np
from msgspec import Struct
from pydantic import ValidationError

from muse_stream.calibration import FittedMap, Recalibration
from muse_stream.config.files import NotAllowed, locate, model_file
from muse_stream.config.graph import MapNode, RecalibrationNode
from muse_stream.config.hashing import pre_map_hash
from muse_stream.config.recalibration import FileRecalibration, InlineRecalibration
from muse_stream.config.reference import FileMap, InlineMap
from muse_stream.config.source import YamlPath
from muse_stream.config.structure import Draft
from muse_stream.errors import Problem

MAX_MAP_BYTES = 16 << 20
"""Largest map file; a map of a million knots would still fit."""

Inline = TypeVar("Inline", InlineMap, InlineRecalibration)
Spec = TypeVar("Spec")
Fitted = TypeVar("Fitted")


class Unusable(ValueError):
    """A map file that cannot be used; `hint` says what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


_maps: WeakValueDictionary[str, FittedMap] = WeakValueDictionary()
"""Maps that somebody holds, by the sha256 of their file: generations share nearly all of them."""
_recalibrations: WeakValueDictionary[str, Recalibration] = WeakValueDictionary()
"""The same of recalibrations."""


def read_map(root: Path, spec: FileMap | InlineMap) -> FittedMap:
    """Return the fitted map that `spec` describes. Raises Unusable, and NotAllowed for a path that leads out.

    A file is read and compared with its pin each time; what is in it is parsed unless somebody has it already.
    """
    if isinstance(spec, InlineMap):
        return _map(spec)
    data = _pinned(root, spec)
    found = _maps.get(spec.sha256)
    if found is None:
        found = _maps[spec.sha256] = _map(_parsed(data, spec.file, InlineMap))
    return found


def _map(inline: InlineMap) -> FittedMap:
    levels, values = (np.array(part, dtype=np.float64) for part in (inline.levels, inline.values))
    try:
        return FittedMap(levels, values, inline.samples, inline.fitted_for, inline.fitted_on, inline.own_share)
    except ValueError as error:
        raise Unusable(str(error), "write it as `FittedMap.to_json` does") from error


def read_recalibration(root: Path, spec: FileRecalibration | InlineRecalibration) -> Recalibration:
    """Return the curve that `spec` describes, as `read_map` does a map."""
    if isinstance(spec, InlineRecalibration):
        return _recalibration(spec)
    data = _pinned(root, spec)
    found = _recalibrations.get(spec.sha256)
    if found is None:
        found = _recalibrations[spec.sha256] = _recalibration(_parsed(data, spec.file, InlineRecalibration))
    return found


def _recalibration(inline: InlineRecalibration) -> Recalibration:
    x, y = (np.array(part, dtype=np.float64) for part in (inline.scores, inline.probabilities))
    try:
        return Recalibration(x, y, inline.samples, inline.positives, inline.method, inline.fitted_for, inline.fitted_on)
    except ValueError as error:
        raise Unusable(str(error), "write it as `Recalibration.to_json` does") from error


def _pinned(root: Path, spec: FileMap | FileRecalibration) -> bytes:
    path = locate(root, spec.file)
    if not path.is_file():
        raise NotAllowed(f"'{spec.file}' is not a file", "give the path of a JSON file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(f"'{spec.file}' cannot be read: {error.strerror}", "give a JSON file") from error
    if len(data) > MAX_MAP_BYTES:
        raise Unusable(f"'{spec.file}' has {len(data)} bytes", f"at most {MAX_MAP_BYTES}")
    found = hashlib.sha256(data).hexdigest()
    if found != spec.sha256:
        raise Unusable(
            f"'{spec.file}' has another sha256: {found[:12]}... and not {spec.sha256[:12]}...",
            "put back the file that was pinned; what was fitted anew is pinned by its own sha256",
        )
    return data


def _parsed(data: bytes, file: str, kind: type[Inline]) -> Inline:
    try:
        return kind.model_validate(json.loads(data))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        parts = ", ".join(name for name, field in kind.model_fields.items() if field.is_required())
        hint = first.get("ctx", {}).get("hint", f"it has {parts}")
        raise Unusable(f"'{file}': {place}: {first['msg']}", str(hint)) from error
    except (ValueError, RecursionError) as error:
        parts = ", ".join(f'"{name}": ...' for name, field in kind.model_fields.items() if field.is_required())
        raise Unusable(f"'{file}' is not JSON", f"{{{parts}}}") from error


class Misfit(Struct, frozen=True):
    """A use of a map that was fitted for something else."""

    problem: Problem
    predictor: str
    models: frozenset[str]
    """Of the predictor."""

    def follows(self, problems: Iterable[Problem]) -> bool:
        """Say whether it may only follow from another problem: in the predictor, in its models or their tables."""
        return unsound(self.predictor, self.models, problems)


def unsound(predictor: str, models: Collection[str], problems: Iterable[Problem]) -> bool:
    """Say whether something is wrong with what a predictor's content is made of."""
    parts = (f"predictors.{predictor}", "categories", *(f"models.{model}" for model in models))
    return any(
        problem.path == part or problem.path.startswith((f"{part}.", f"{part}["))
        for problem in problems
        for part in parts
    )


class FittedData(Struct, frozen=True):
    """What a document's maps and recalibrations are, by name, as far as they can be used."""

    maps: dict[str, FittedMap]
    recalibrations: dict[str, Recalibration]


def map_problems(draft: Draft, root: Path) -> tuple[FittedData, list[Problem], list[Misfit]]:
    """Return maps and recalibrations, a problem for each that cannot be used, and each use of one that does not fit."""
    problems: list[Problem] = []

    def read(section: str, specs: Mapping[str, Spec], reader: Callable[[Path, Spec], Fitted]) -> dict[str, Fitted]:
        found: dict[str, Fitted] = {}
        for name, spec in specs.items():
            try:
                found[name] = reader(root, spec)
            except Unusable as unusable:
                step = "sha256" if "sha256" in str(unusable) else "file"
                problems.append(draft.problem((section, name, step), str(unusable), unusable.hint))
            except NotAllowed:
                continue  # `files` has said so
        return found

    maps = read("maps", draft.document.maps, read_map)
    curves = read("recalibrations", draft.document.recalibrations, read_recalibration)
    fitted_for = {("map", name): one.fitted_for for name, one in maps.items()}
    fitted_for |= {("recalibration", name): one.fitted_for for name, one in curves.items()}
    misfits = list(_misfits(draft, fitted_for))
    suspects = {model for misfit in misfits for model in misfit.models}
    return FittedData(maps, curves), [*problems, *_other_files(draft, root, suspects)], misfits


def _other_files(draft: Draft, root: Path, suspects: Collection[str]) -> Iterator[Problem]:
    """Yield the models whose file is not the one that is pinned: nothing fitted for them can fit."""
    for name, spec in draft.document.models.items():
        if name not in suspects:
            continue
        try:
            with model_file(root, spec.uri, spec.sha256).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except (NotAllowed, OSError):
            continue  # `files` has said so, or the model's own check will
        if found != spec.sha256:
            message = f"'{spec.uri}' is another file than the one pinned: its sha256 is {found[:12]}..."
            hint = "put back the file that was pinned; for a retrained model pin the new file, and fit its maps anew"
            yield draft.problem(("models", name), message, hint)


def _misfits(draft: Draft, fitted_for: Mapping[tuple[str, str], str]) -> Iterator[Misfit]:
    known = {name: _contents(draft, name) for name in draft.document.predictors}
    owners = {content: name for name, contents in known.items() for content in contents.values()}
    for name, predictor in draft.document.predictors.items():
        graph, contents = predictor.graph(), known[name]
        users: dict[str, MapNode | RecalibrationNode] = {**graph.recalibration_nodes(), **graph.map_nodes()}
        for node, refs in users.items():
            if node not in contents:
                continue
            kind = "recalibration" if isinstance(refs, RecalibrationNode) else "map"
            where: YamlPath = ("predictors", name, *predictor.where(node))
            uses: dict[YamlPath, str] = {("tenants", tenant): chosen for tenant, chosen in refs.tenants.items()}
            if refs.default is not None:
                uses[("default",)] = refs.default
            for step, chosen in uses.items():
                content = fitted_for.get((kind, chosen))
                if content is not None and content != contents[node]:
                    message = f"{kind} '{chosen}' was fitted for {content[:12]}..., another content of the predictor"
                    owner = owners.get(content)
                    hint = _REFIT.format(name, "map" if kind == "map" else "recalibration")
                    if owner not in (None, name):
                        hint = f"it was fitted for '{owner}': give '{name}' a {kind} of its own"
                    yield Misfit(draft.problem((*where, *step), message, hint), name, frozenset(graph.models()))


_REFIT = (
    "fit it again, on what '{}' gives before its {}; or take back what changed since: models, their inputs, category "
    "tables, betas, aggregation"
)


def _contents(draft: Draft, name: str) -> dict[str, str]:
    """Return the content hash before each fitted node of a predictor, by node; without what cannot be told."""
    found: dict[str, str] = {}
    graph = draft.document.predictors[name].graph()
    for node in (*graph.recalibration_nodes(), *graph.map_nodes()):
        with suppress(KeyError, CycleError):  # the graph or a name in it is wrong, and has been reported
            found[node] = pre_map_hash(draft.document, name, node)
    return found
