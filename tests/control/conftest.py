"""A small published configuration: the example of the project, copied where a test may break it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.config import Loaded, load_document

Edited = Callable[[Loaded, str], Loaded]
EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"


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
