"""The records of a store: what version 0.1.0 wrote is read, what is newer or damaged is refused with a reason."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from muse_stream.config import Loaded, load_document
from muse_stream.control import DirectoryStore, Head, Manifest, Note
from muse_stream.control.records import digest_of
from muse_stream.errors import StoreError

FROZEN = Path(__file__).parent / "frozen" / "format-1"
FILES = {"muse.yaml": "a" * 64, "models/a.onnx": "b" * 64}


@pytest.fixture
def old(tmp_path: Path) -> DirectoryStore:
    """A store as muse-stream 0.1.0 left it; to be written to."""
    return DirectoryStore(Path(shutil.copytree(FROZEN, tmp_path / "store")))


def manifest(**over: Any) -> bytes:
    made = Manifest(3, digest_of("muse.yaml", FILES), datetime(2026, 11, 26, tzinfo=UTC), 2, "muse.yaml", FILES)
    return json.dumps(json.loads(made.to_json()) | over).encode()


def test_a_store_of_version_0_1_0_is_read(old: DirectoryStore) -> None:
    assert (old.current(), old.former()) == (2, (1,))
    assert [(entry.number, entry.author, entry.problem) for entry in old.list()] == [(1, "", ""), (2, "", "")]
    assert old.manifest(2).format == 1
    generation = old.open(2)
    assert generation.parent == 1
    assert load_document(generation.path).document.tenants


def test_a_store_of_version_0_1_0_goes_on(old: DirectoryStore, loaded: Loaded) -> None:
    before = old.open(2).path.read_bytes()
    number = old.publish(loaded, Note("the first of format 2", "ana"))
    assert number == 3
    old.move_current(2, number)
    assert old.former() == (2, 1)
    assert old.rollback() == 2
    assert old.open(2).path.read_bytes() == before
    head = old.head()
    assert head is not None
    assert head.sequence > 0


def test_a_record_says_what_it_said_after_writing_and_reading() -> None:
    made = Manifest.read(manifest(author="ana", message="why", evidence={"events": 7}, version="1.2"), 3, "here")
    assert Manifest.read(made.to_json(), 3, "here") == made
    head = Head(3, "c" * 64, (2, 1), 9, datetime(2026, 11, 26, tzinfo=UTC), "ana", "why", "1.2")
    assert Head.read(head.to_json(), "here") == head


@pytest.mark.parametrize(("version", "named"), [("2.7.1", "2.7.1"), (None, "of that format"), ("\x1b[2J", "of that")])
def test_a_newer_format_is_refused_naming_the_version_needed(version: str | None, named: str) -> None:
    """Whatever else a newer record holds: it need not make sense to this version."""
    newer = json.dumps({"format": 3, "version": version, "number": "three"}).encode()
    for read in (lambda: Manifest.read(newer, 3, "here"), lambda: Head.read(newer, "here")):
        with pytest.raises(StoreError) as refused:
            read()
        assert "here: written in format 3, and this muse-stream reads up to 2: it needs muse-stream " in str(
            refused.value
        )
        assert named in str(refused.value)
        assert "\x1b" not in str(refused.value)


@pytest.mark.parametrize(
    "over",
    [
        {"files": {"../../etc/passwd": "a" * 64, "muse.yaml": "a" * 64}},
        {"files": {"/etc/passwd": "a" * 64, "muse.yaml": "a" * 64}},
        {"files": {"a//b": "a" * 64, "muse.yaml": "a" * 64}},
        {"files": {"a\\b": "a" * 64, "muse.yaml": "a" * 64}},
        {"files": {"muse.yaml": "../../x"}},
        {"files": {"muse.yaml": 7}},
        {"files": []},
        {"document": "other.yaml"},
        {"document": "../muse.yaml"},
        {"number": 4},
        {"author": 7},
        {"evidence": "none"},
        {"created": "yesterday"},
        {"created": 7},
        {"format": "2"},
        {"format": True},
        {"format": 0},
        {"sha256": "0" * 64},
    ],
)
def test_a_manifest_that_is_none_is_refused(over: dict[str, Any]) -> None:
    """Names become paths and hashes become keys: a hostile record must not choose them, its own hash being right."""
    content = json.loads(manifest()) | over
    if isinstance(content["files"], dict) and "sha256" not in over:
        content["sha256"] = digest_of(content["document"], content["files"])
    with pytest.raises(StoreError, match=r"^here: "):
        Manifest.read(json.dumps(content).encode(), 3, "here")


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b"7", b'{"number": 1e999}', b"{}"])
def test_garbage_is_refused(data: bytes) -> None:
    for read in (lambda: Manifest.read(data, 3, "here"), lambda: Head.read(data, "here")):
        with pytest.raises(StoreError, match=r"^here: "):
            read()


@pytest.mark.parametrize(
    "over",
    [{"number": True}, {"former": [0]}, {"former": [True]}, {"sequence": -1}, {"sequence": "1"}, {"sha256": "x"}],
)
def test_a_head_that_is_none_is_refused(over: dict[str, Any]) -> None:
    content = json.loads(Head(3, "c" * 64).to_json()) | over
    with pytest.raises(StoreError, match=r"^here: "):
        Head.read(json.dumps(content).encode(), "here")
