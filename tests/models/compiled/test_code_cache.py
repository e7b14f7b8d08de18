"""Faster code: made in the background, kept for the next process, and loaded only where nobody else can have put it."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from muse_stream import environment
from muse_stream.models.compiled import native, optimiser
from muse_stream.models.compiled import trees as trees_module
from muse_stream.models.compiled.code_cache import FOLDER, CodeCache
from muse_stream.models.compiled.trees import CompiledTrees
from tests.models.compiled.forests import Forest
from tests.models.compiled.test_forests import PLAIN, read
from tests.patience import until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def forest() -> Forest:
    return Forest(PLAIN)


def test_what_is_kept_is_found_by_the_same_text_and_compiler(root: Path) -> None:
    CodeCache(root, "llvm 1").keep("text", b"code")
    assert CodeCache(root, "llvm 1").find("text") == b"code"
    assert CodeCache(root, "llvm 1").find("another") is None
    assert CodeCache(root, "llvm 2").find("text") is None
    assert (root / FOLDER).stat().st_mode & 0o777 == 0o700


def test_looking_for_code_makes_no_folder(root: Path) -> None:
    assert CodeCache(root, "llvm").find("text") is None
    assert not root.exists()


def _file(root: Path) -> Path:
    (file,) = (root / FOLDER).iterdir()
    return file


def test_damaged_code_is_not_loaded(root: Path) -> None:
    cache = CodeCache(root, "llvm")
    cache.keep("text", b"code")
    file = _file(root)
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert cache.find("text") is None


def test_code_of_another_text_is_not_loaded_under_its_name(root: Path) -> None:
    cache = CodeCache(root, "llvm")
    cache.keep("one", b"code")
    one = _file(root)
    cache.keep("other", b"worse")
    (other,) = set((root / FOLDER).iterdir()) - {one}
    os.replace(other, one)
    assert cache.find("one") is None


def test_a_folder_that_others_may_write_is_not_used(root: Path) -> None:
    CodeCache(root, "llvm").keep("text", b"code")
    for folder in (root / FOLDER, root):
        folder.chmod(0o777)
        cache = CodeCache(root, "llvm")
        assert cache.find("text") is None, folder
        assert str(folder) in cache.unusable()
        folder.chmod(0o700)
    assert CodeCache(root, "llvm").find("text") == b"code"


def test_a_volume_of_a_pod_is_not_used_and_memory_of_the_pod_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `fsGroup` Kubernetes gives a volume to a group (2775, or 2777), and /dev/shm is sticky, as /tmp is."""
    volume, memory = tmp_path / "volume", tmp_path / "shm"
    for folder, mode in ((volume, 0o2775), (memory, 0o1777)):
        folder.mkdir()
        folder.chmod(mode)
    monkeypatch.setenv("MUSE_CACHE_DIR", str(volume))
    CodeCache(environment.code_cache_dir(), "llvm").keep("text", b"code")
    assert f"others may write {volume}" in CodeCache(environment.code_cache_dir(), "llvm").unusable()
    assert CodeCache(environment.code_cache_dir(), "llvm").find("text") is None
    monkeypatch.setenv("MUSE_CODE_CACHE_DIR", str(memory / "own"))
    CodeCache(environment.code_cache_dir(), "llvm").keep("text", b"code")
    assert CodeCache(environment.code_cache_dir(), "llvm").find("text") == b"code"


def test_room_is_left_for_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root.mkdir()
    free = shutil.disk_usage(root).free
    monkeypatch.setattr("muse_stream.models.compiled.code_cache.LEFT", free + 1)
    CodeCache(root, "llvm").keep("text", b"code")
    assert CodeCache(root, "llvm").find("text") is None


def test_a_file_that_others_may_write_or_a_link_is_not_loaded(root: Path) -> None:
    cache = CodeCache(root, "llvm")
    cache.keep("text", b"code")
    file = _file(root)
    file.chmod(0o666)
    assert cache.find("text") is None
    file.chmod(0o600)
    moved = root / "elsewhere"
    file.rename(moved)
    file.symlink_to(moved)
    assert cache.find("text") is None


def test_a_folder_that_cannot_be_made_costs_the_cache_alone(tmp_path: Path, forest: Forest) -> None:
    (tmp_path / "file").write_text("")
    trees = CompiledTrees(read(forest), tmp_path / "file")
    assert len(trees.answer(forest.rows())) == PLAIN.rows


def test_busy_trees_get_faster_code_and_keep_their_bits(
    root: Path, forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trees_module, "BUSY_ROWS", 500)
    trees, rows = CompiledTrees(read(forest), root), forest.rows()
    before = trees.answer(rows)
    assert not trees.optimised
    trees.answer(rows)
    until(lambda: trees.optimised, 60, lambda: "faster code")
    assert trees.answer(rows).tobytes() == before.tobytes()
    again = CompiledTrees(read(forest), root)
    assert again.optimised
    assert again.answer(rows).tobytes() == before.tobytes()


def test_faster_code_of_other_bits_is_not_taken(root: Path, forest: Forest) -> None:
    trees = CompiledTrees(read(forest), root)
    rows = forest.rows()
    before = trees.answer(rows)
    wrong = native.object_code(trees.text.replace("fcmp ole", "fcmp olt"), optimised=True)
    with pytest.raises(RuntimeError, match="other bits"):
        trees.exchange(wrong)
    assert trees.answer(rows).tobytes() == before.tobytes()


def test_a_compiler_that_fails_leaves_the_code_that_is_there(
    root: Path, forest: Forest, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Event()

    def fail(_text: str) -> bytes:
        failed.set()
        raise RuntimeError("no memory")

    monkeypatch.setattr(optimiser, "optimised", fail)
    monkeypatch.setattr(trees_module, "BUSY_ROWS", 1)
    trees = CompiledTrees(read(forest), root)
    trees.answer(forest.rows())
    assert failed.wait(30)
    assert len(trees.answer(forest.rows())) == PLAIN.rows
    assert not trees.optimised


def test_a_text_that_is_none_is_said_to_be_so() -> None:
    with pytest.raises(RuntimeError, match="the compiler ended with 1"):
        optimiser.optimised("no text for LLVM")


def test_importing_models_loads_no_compiler() -> None:
    code = "import sys, muse_stream.models; print('llvmlite' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
