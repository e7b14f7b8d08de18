"""From a pinned file to a model that serves: checked, bound and warmed up; or a ModelError.

Hash, then content, then binding, then the runtime, then probe rows; nothing runs before it was checked. The cache gives
every predictor of every tenant the same loaded model for the same bytes under the same binding, and lets go of it with
the last snapshot that uses it.
"""

import hashlib
import threading
from pathlib import Path
from weakref import WeakValueDictionary

from muse_stream.config import ModelSpec
from muse_stream.errors import ModelError
from muse_stream.models.artifact import describe
from muse_stream.models.session import OnnxModel, open_session
from muse_stream.models.signature import Signature, bind
from muse_stream.models.verified import read_verified
from muse_stream.models.warmup import warm


def load_model(data: bytes | Path, spec: ModelSpec, *, max_bytes: int) -> OnnxModel:
    """Load one model; `data` is its file or its bytes, `max_bytes` the largest file accepted. Raises ModelError."""
    content = read_verified(data, spec.sha256, max_bytes) if isinstance(data, Path) else data
    _check_size(len(content), max_bytes)
    if not isinstance(data, Path) and hashlib.sha256(content).hexdigest() != spec.sha256.lower():
        raise ModelError(f"the model's sha256 is not the pinned {spec.sha256}: these are other bytes")
    artifact = describe(content)
    binding = Signature.of(spec)
    model = open_session(content, artifact, bind(artifact, binding), binding)
    warm(model)
    return model


class ModelCache:
    """Models by sha256 and binding; loads each once while anybody holds it. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: WeakValueDictionary[tuple[str, Signature], OnnxModel] = WeakValueDictionary()

    def load(self, path: Path, spec: ModelSpec, *, max_bytes: int) -> OnnxModel:
        """Return the model of `spec`, from memory when it is loaded already; raises ModelError.

        `max_bytes` is the limit of the generation that asks: it holds for a model that another one has loaded, too.
        """
        key = (spec.sha256.lower(), Signature.of(spec))
        with self._lock:  # held while loading: two callers that want the same model must not load it twice
            model = self._models.get(key)
            if model is None:
                model = load_model(path, spec, max_bytes=max_bytes)
                self._models[key] = model
            _check_size(model.size, max_bytes)
            return model


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ModelError(f"the model has {size:,} bytes, the limit is {max_bytes:,} (limits.model_bytes)")
