"""`export`: a generation as files; published elsewhere it is the same content and gives the same scores."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import muse_stream
from muse_stream.cli.main import main
from muse_stream.config import load_document
from muse_stream.control import Note, Store, open_store
from muse_stream.testing import Redis
from tests.config.example_config import ROOT

Output = pytest.CaptureFixture[str]
EVENTS = {
    "id": ["a", "b"],
    "tenant": "acme",
    "channel": ["ecom", "pos"],
    "region": "pt",
    "amount": [12.5, 990.0],
    "cross_border": [False, True],
    "terminal.risk_7d": [0.0, 0.7],
    "customer.age": 40,
    "customer.tx_per_day": 1.5,
}


@pytest.fixture(params=["directory", "redis"])
def address(
    request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Where a store with the example is, of each kind."""
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "cache"))
    if request.param == "directory":
        address = str(tmp_path / "store")
    else:
        redis: Redis = request.getfixturevalue("redis")
        address = f"{redis.url}?prefix={unique('muse')}"
    store = open_store(address)
    publish(store, ROOT / "muse.yaml")
    yield address
    store.close()


def publish(store: Store, document: Path) -> int:
    number = store.publish(load_document(document), Note("test"))
    store.move_current(store.current(), number)
    return number


def test_what_is_exported_can_be_published_elsewhere_as_the_same_content(
    address: str, tmp_path: Path, capsys: Output
) -> None:
    target = tmp_path / "new" / "export"
    assert main(["export", "current", str(target), "--store", address, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert main(["check", str(target / "muse.yaml")]) == 0
    assert main(["publish", str(target / "muse.yaml"), str(tmp_path / "elsewhere"), "--yes"]) == 0
    here, there = open_store(address), open_store(tmp_path / "elsewhere")
    assert there.manifest(1).sha256 == here.manifest(1).sha256 == told["sha256"]
    assert there.manifest(1).files == here.manifest(1).files
    assert told["files"] == len(here.manifest(1).files)
    here.close()
    ours = muse_stream.load(ROOT / "muse.yaml").score(EVENTS)
    assert ours["score"].tolist() == muse_stream.load(tmp_path / "elsewhere").score(EVENTS)["score"].tolist()


def test_a_folder_with_something_in_it_is_left_alone_unless_told_otherwise(
    address: str, tmp_path: Path, capsys: Output
) -> None:
    target = tmp_path / "export"
    target.mkdir()
    (target / "note.txt").write_text("mine")
    (target / "muse.yaml").write_text("old")
    assert main(["export", "1", str(target), "--store", address]) == 2
    assert "the folder is not empty" in capsys.readouterr().err
    assert sorted(path.name for path in target.iterdir()) == ["muse.yaml", "note.txt"]
    assert main(["export", "1", str(target), "--store", address, "--overwrite"]) == 0
    assert (target / "note.txt").read_text() == "mine"
    assert (target / "muse.yaml").read_bytes() == (ROOT / "muse.yaml").read_bytes()
    (target / "schemas" / "other.avsc").write_text("{}")  # would be published along
    assert main(["export", "1", str(target), "--store", address, "--overwrite"]) == 2
    assert "other.avsc" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["export", "1", str(tmp_path / "file"), "--store", address]) == 2
    assert "is there, and is no folder" in capsys.readouterr().err


def test_what_is_not_there_or_damaged_is_not_exported(tmp_path: Path, capsys: Output) -> None:
    store = open_store(tmp_path / "store")
    publish(store, ROOT / "muse.yaml")
    address, target = ["--store", str(tmp_path / "store")], tmp_path / "export"
    assert main(["export", "7", str(target), *address]) == 1
    assert "there is no generation 7; there is: 1" in capsys.readouterr().err
    assert main(["export", "seven", str(target), *address]) == 2
    assert "'seven' is no generation" in capsys.readouterr().err
    model = min((tmp_path / "store" / "generations" / "000001").rglob("*.onnx"))
    model.write_bytes(b"other")
    assert main(["export", "1", str(target), *address]) == 1
    assert model.name in capsys.readouterr().err
    assert not target.exists()
