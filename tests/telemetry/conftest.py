"""`configure` changes the process's logging; every test gets it back as it was."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Restore the package's root logger after each test."""
    root = logging.getLogger("muse_stream")
    before = root.handlers[:], root.level, root.propagate
    yield
    root.handlers[:], level, root.propagate = before
    root.setLevel(level)
