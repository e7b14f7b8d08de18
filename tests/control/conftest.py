"""A store of each kind, and a small configuration: the example of the project, copied where a test may break it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muse_stream.config import Loaded, load_document
from muse_stream.control import DirectoryStore, Store, open_store, redis_address, redis_store
from muse_stream.testing import Redis

Edited = Callable[[Loaded, str], Loaded]
EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"


def answers_within(patch: pytest.MonkeyPatch, seconds: float) -> None:
    """How long an answer of Redis is waited for."""
    patch.setattr(redis_address, "TIMEOUT_S", seconds)
    patch.setattr(redis_store, "TIMEOUT_S", seconds)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Redis on a busy machine may be silent for a second, which is all that the product gives it."""
    answers_within(monkeypatch, 60.0)


@pytest.fixture
def impatient(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a Redis that is paused; what it answers before and after, it has this time for."""
    answers_within(monkeypatch, 2.0)


@pytest.fixture(params=["directory", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "directory":
        (tmp_path / "store").mkdir()
        yield DirectoryStore(tmp_path / "store")
        return
    redis: Redis = request.getfixturevalue("redis")
    opened = open_store(f"{redis.url}?prefix={unique('muse')}")
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example configuration's folder."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "config"))


@pytest.fixture
def loaded(folder: Path) -> Loaded:
    """The example configuration, loaded from the copy."""
    return load_document(folder / "muse.yaml")


@pytest.fixture
def edited() -> Edited:
    """`edited(loaded, "second")` is the same configuration with one more comment: other content, same meaning."""

    def edit(loaded: Loaded, comment: str) -> Loaded:
        path = loaded.source.path
        path.write_bytes(loaded.source.data + f"# {comment}\n".encode())
        return load_document(path)

    return edit
