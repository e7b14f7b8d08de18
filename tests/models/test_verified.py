"""`read_verified`: the bytes that were hashed are the bytes that come back, or nothing comes back."""

import hashlib
import os
from pathlib import Path

import pytest

from muse_stream.errors import ModelError
from muse_stream.models import read_verified

CONTENT = b"the model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(CONTENT)
    return path


def test_returns_the_bytes_of_the_pinned_file(artifact: Path) -> None:
    assert read_verified(artifact, SHA256, len(CONTENT)) == CONTENT
    assert read_verified(artifact, SHA256.upper(), len(CONTENT)) == CONTENT


def test_another_file_is_refused_with_both_hashes(artifact: Path) -> None:
    artifact.write_bytes(CONTENT + b"!")
    with pytest.raises(ModelError, match="this is another file") as caught:
        read_verified(artifact, SHA256, 1 << 20)
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(CONTENT + b"!").hexdigest() in str(caught.value)


def test_a_pin_that_is_no_hash_is_refused(artifact: Path) -> None:
    with pytest.raises(ModelError, match="64 hex digits"):
        read_verified(artifact, "latest", 1 << 20)


def test_oversize_is_refused_before_reading(artifact: Path) -> None:
    with pytest.raises(ModelError, match=r"9,000 bytes, the limit is 8,999 \(limits.model_bytes\)"):
        read_verified(artifact, SHA256, len(CONTENT) - 1)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone.onnx: cannot be opened: No such file"):
        read_verified(tmp_path / "gone.onnx", SHA256, 1 << 20)


def test_folder_and_pipe_are_no_models(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opened without O_NONBLOCK, this would wait for a writer forever
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ModelError, match="not a regular file"):
            read_verified(path, SHA256, 1 << 20)


def test_symbolic_link_is_refused_even_to_the_right_bytes(artifact: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.onnx"
    link.symlink_to(artifact)
    with pytest.raises(ModelError, match="symbolic link"):
        read_verified(link, SHA256, 1 << 20)


def test_linked_parent_folder_is_allowed(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(tmp_path, target_is_directory=True)
    assert read_verified(tmp_path / "current" / artifact.name, SHA256, 1 << 20) == CONTENT


def test_file_exchanged_after_opening_changes_nothing(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def exchange(descriptor: int) -> os.stat_result:
        other = artifact.with_suffix(".new")
        other.write_bytes(b"evil")
        other.replace(artifact)
        return real(descriptor)

    monkeypatch.setattr(os, "fstat", exchange)
    assert read_verified(artifact, SHA256, 1 << 20) == CONTENT
    monkeypatch.undo()
    assert artifact.read_bytes() == b"evil"


def test_file_growing_while_it_is_read_is_refused(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fstat

    def grow(descriptor: int) -> os.stat_result:
        before = real(descriptor)
        with artifact.open("ab") as file:
            file.write(b"more")
        return before

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(ModelError, match="grew over the limit"):
        read_verified(artifact, SHA256, len(CONTENT))
