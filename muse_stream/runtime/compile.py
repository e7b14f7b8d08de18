"""From a document on disk to a compiled generation: a `Snapshot`, its document, its schemas, its models.

A generation is compiled whole or refused whole; models are shared through the cache with the generation before.
"""

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from muse_stream.avro import SchemaDirectory
from muse_stream.config import Document, Loaded, ModelSpec, Role, model_file
from muse_stream.errors import ConfigError, ModelError, Problem, SchemaError
from muse_stream.models import Backend, ModelCache, OnnxModel
from muse_stream.scoring import Snapshot, compile_snapshot, models_needed

WHOLE: Role = "shadow"
"""The role that has every predictor, live and shadow."""


class Compiled(Struct, frozen=True, eq=False):
    """One generation in one role, ready to execute."""

    loaded: Loaded
    snapshot: Snapshot
    schemas: SchemaDirectory
    cache: ModelCache
    backends: Mapping[str, Backend]
    """What runs each model."""

    @property
    def document(self) -> Document:
        """What was compiled."""
        return self.loaded.document


def compile_generation(
    loaded: Loaded, number: int, role: Role, cache: ModelCache | None = None, schemas: SchemaDirectory | None = None
) -> Compiled:
    """Compile a document as generation `number`; models that `cache` holds are not loaded again.

    `schemas` is the document's folder of schemas, where it is open already.
    """
    cache = cache or ModelCache()
    models = load_models(loaded, role, cache)
    maps, curves = loaded.fitted.maps, loaded.fitted.recalibrations
    snapshot = compile_snapshot(loaded.document, models, maps, curves, number=number, role=role)
    try:
        schemas = schemas or SchemaDirectory.open(loaded.root / loaded.document.schemas)
    except SchemaError as error:
        raise ConfigError([loaded.source.problem(("schemas",), str(error))]) from error
    return Compiled(loaded, snapshot, schemas, cache, {name: model.backend for name, model in models.items()})


def load_model_of(root: Path, spec: ModelSpec, cache: ModelCache, max_bytes: int) -> OnnxModel:
    """Load one model of a document whose files stand in `root`. Raises ModelError or NotAllowed."""
    external = None if spec.data is None else model_file(root, spec.data.file, spec.data.sha256)
    return cache.load(model_file(root, spec.uri, spec.sha256), spec, max_bytes=max_bytes, external=external)


def load_models(loaded: Loaded, role: Role, cache: ModelCache) -> dict[str, OnnxModel]:
    """Load every model that the role needs, by name. Raises ConfigError naming each that is refused."""
    models: dict[str, OnnxModel] = {}
    problems: list[Problem] = []
    for name in sorted(models_needed(loaded.document, role)):
        spec = loaded.document.models[name]
        try:
            models[name] = load_model_of(loaded.root, spec, cache, loaded.document.limits.model_bytes)
        except ModelError as error:
            problems.append(loaded.source.problem(("models", name), str(error)))
    if problems:
        raise ConfigError(problems)
    return models
