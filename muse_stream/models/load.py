"""From a pinned file to a model that serves: checked, bound and warmed up; or a ModelError.

Hash, then content, then binding, then the runtime, then probe rows; nothing runs before it was checked. The cache gives
every predictor of every tenant the same loaded model for the same bytes under the same binding, and lets go of it with
the last snapshot that uses it.
"""

import ctypes
import hashlib
import threading
from pathlib import Path
from weakref import WeakValueDictionary

from muse_stream.config import ModelSpec
from muse_stream.errors import ModelError
from muse_stream.models.artifact import read_model, runnable
from muse_stream.models.backend import choose_backend
from muse_stream.models.batch_axis import refuse_mixing
from muse_stream.models.constants import constants
from muse_stream.models.influence import refuse_influence
from muse_stream.models.session import OnnxModel, open_session
from muse_stream.models.signature import Signature, bind
from muse_stream.models.verified import read_verified
from muse_stream.models.warmup import warm


def load_model(
    data: bytes | Path, spec: ModelSpec, *, max_bytes: int, external: bytes | Path | None = None
) -> OnnxModel:
    """Load one model; raises ModelError.

    `data` is its file or its bytes, `external` the same of the file that the specification names as `data`, `max_bytes`
    the most that both may have together.
    """
    content = _pinned(data, spec.sha256, max_bytes)
    tensors = None if spec.data is None or external is None else _pinned(external, spec.data.sha256, max_bytes)
    _check_size(len(content) + len(tensors or b""), max_bytes)
    binding = Signature.of(spec)
    parsed, artifact = read_model(content, tensors)
    bound = bind(artifact, binding)
    followed = refuse_mixing(parsed, artifact)
    known = constants(parsed)
    model = open_session(runnable(parsed, artifact, content), artifact, bound, binding)
    warm(model, known)
    if not followed:
        refuse_influence(parsed, bound, known)
    choose_backend(model, parsed, bound, known)
    del content, tensors, parsed, known
    _give_back()
    return model


def _pinned(data: bytes | Path, sha256: str, max_bytes: int) -> bytes:
    if isinstance(data, Path):
        return read_verified(data, sha256, max_bytes)
    _check_size(len(data), max_bytes)
    if hashlib.sha256(data).hexdigest() != sha256.lower():
        raise ModelError(f"the model's sha256 is not the pinned {sha256}: these are other bytes")
    return data


def _give_back() -> None:
    """Give memory that is free again back to the system: the runtime takes up to 12 times the file while it loads it.

    glibc keeps what lies below the last piece in use; other C libraries have no such call, and no need of it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class ModelCache:
    """Models by sha256 and binding; loads each once while anybody holds it. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: WeakValueDictionary[tuple[str, Signature], OnnxModel] = WeakValueDictionary()

    def load(self, path: Path, spec: ModelSpec, *, max_bytes: int, external: Path | None = None) -> OnnxModel:
        """Return the model of `spec`, from memory when it is loaded already; raises ModelError.

        `external` is the file that `spec` names as `data`. `max_bytes` is the limit of the generation that asks: it
        holds for a model that another one has loaded, too.
        """
        key = (spec.sha256.lower(), Signature.of(spec))
        with self._lock:  # held while loading: two callers that want the same model must not load it twice
            model = self._models.get(key)
            if model is None:
                model = load_model(path, spec, max_bytes=max_bytes, external=external)
                self._models[key] = model
            _check_size(model.size, max_bytes)
            return model


def _check_size(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise ModelError(f"the model has {size:,} bytes, the limit is {max_bytes:,} (limits.model_bytes)")
