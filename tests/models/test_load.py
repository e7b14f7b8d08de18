"""Loading by path and by bytes, and the cache: one model for the same bytes under the same binding."""

import gc
import threading
from pathlib import Path

import pytest

from muse_stream.config import ModelSpec
from muse_stream.errors import ModelError
from muse_stream.models import ModelCache, OnnxModel, load, load_model
from muse_stream.scoring.model import Model
from tests.models.onnx_factory import LIMIT, linear, rows, spec_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model.onnx"
    file.write_bytes(linear())
    return file


def test_path_and_bytes_give_the_same_model(path: Path) -> None:
    spec = spec_of(linear(), positive=0)
    one: Model = load_model(path, spec, max_bytes=LIMIT)  # satisfies what scoring asks for
    two: Model = load_model(linear(), spec, max_bytes=LIMIT)
    assert one.sha256 == two.sha256 == spec.sha256
    assert one.inputs == two.inputs
    assert (one.predict([rows(9, 3)]) == two.predict([rows(9, 3)])).all()


def test_other_bytes_than_pinned_are_refused(path: Path) -> None:
    spec = spec_of(linear(4), positive=0)
    for data in (path, linear()):
        with pytest.raises(ModelError, match="sha256"):
            load_model(data, spec, max_bytes=LIMIT)


def test_oversize_is_refused(path: Path) -> None:
    spec = spec_of(linear(), positive=0)
    for data in (path, linear()):
        with pytest.raises(ModelError, match=r"the limit is 100 \(limits.model_bytes\)"):
            load_model(data, spec, max_bytes=100)


class _Counter:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loads = 0
        real = load.load_model

        def counted(
            data: bytes | Path, spec: ModelSpec, *, max_bytes: int, external: bytes | Path | None = None
        ) -> OnnxModel:
            self.loads += 1
            return real(data, spec, max_bytes=max_bytes, external=external)

        monkeypatch.setattr(load, "load_model", counted)


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch) -> _Counter:
    return _Counter(monkeypatch)


def test_the_cache_loads_once_even_from_several_threads(path: Path, counter: _Counter) -> None:
    cache, spec, seen = ModelCache(), spec_of(linear(), positive=0), list[OnnxModel]()
    threads = [threading.Thread(target=lambda: seen.append(cache.load(path, spec, max_bytes=LIMIT))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.loads == 1
    assert len(seen) == 4
    assert all(model is seen[0] for model in seen)


def test_another_binding_is_another_model(path: Path, counter: _Counter) -> None:
    cache, spec = ModelCache(), spec_of(linear(), positive=0)
    renamed = spec.model_copy(update={"output": spec.output.model_copy(update={"positive": (1,)})})
    model = cache.load(path, spec, max_bytes=LIMIT)
    with pytest.raises(ModelError, match="positive"):
        cache.load(path, renamed, max_bytes=LIMIT)
    assert counter.loads == 2
    assert cache.load(path, spec, max_bytes=LIMIT) is model


def test_a_model_nobody_uses_is_let_go(path: Path, counter: _Counter) -> None:
    cache, spec = ModelCache(), spec_of(linear(), positive=0)
    model = cache.load(path, spec, max_bytes=LIMIT)
    del model
    gc.collect()
    cache.load(path, spec, max_bytes=LIMIT)
    assert counter.loads == 2


def test_a_loaded_model_needs_its_file_no_more(path: Path, counter: _Counter) -> None:
    cache, spec = ModelCache(), spec_of(linear(), positive=0)
    model = cache.load(path, spec, max_bytes=LIMIT)
    path.unlink()
    assert cache.load(path, spec, max_bytes=LIMIT) is model
    assert counter.loads == 1


def test_the_limit_of_who_asks_holds_for_a_loaded_model_too(path: Path, counter: _Counter) -> None:
    """A worker that swaps must refuse what a fresh one would refuse, and take what a fresh one would take."""
    cache, spec, size = ModelCache(), spec_of(linear(), positive=0), path.stat().st_size
    with pytest.raises(ModelError, match=r"limits.model_bytes"):
        cache.load(path, spec, max_bytes=size - 1)
    model = cache.load(path, spec, max_bytes=size)
    with pytest.raises(ModelError, match=rf"the limit is {size - 1} \(limits.model_bytes\)"):
        cache.load(path, spec, max_bytes=size - 1)
    assert cache.load(path, spec, max_bytes=size) is model
