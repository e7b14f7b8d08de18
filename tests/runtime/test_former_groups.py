"""Which consumer groups read the fleet's topics before: asked of former generations, each of them parsed once."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from muse_stream.config import load_document
from muse_stream.control import DirectoryStore, Follower
from muse_stream.errors import StoreError
from muse_stream.runtime import worker_process
from muse_stream.runtime.worker_process import former_groups
from tests.runtime.test_batch_scorer import changed

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"


def published(folder: Path, lanes: list[str]) -> DirectoryStore:
    """Return a store whose generations have all tenants in one lane each, the last of them current."""
    store = DirectoryStore(folder / "store")
    copy = shutil.copytree(EXAMPLE.parent, folder / "config")
    for lane in lanes:

        def move(document: Any, lane: str = lane) -> None:
            for tenant in document["tenants"].values():
                tenant["lane"] = lane

        number = store.publish(load_document(changed(copy / "muse.yaml", move)))
        store.move_current(store.current(), number)
    return store


def test_groups_of_the_last_two_generations_are_known_and_parsed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Follower(published(tmp_path, ["first", "second", "third", "fourth"]))
    known: dict[str, frozenset[str]] = {}
    expected = frozenset({"muse.second.live", "muse.third.live"})
    assert former_groups(source, 4, "live", known) == expected
    assert len(known) == 2

    def parsed(path: Path) -> Any:
        raise AssertionError(f"{path} is parsed again")

    monkeypatch.setattr(worker_process, "load_document", parsed)
    assert former_groups(source, 4, "live", known) == expected


def test_a_former_generation_that_is_broken_or_gone_is_passed_over(tmp_path: Path) -> None:
    store = published(tmp_path, ["first", "second", "third"])
    path = store.open(2).path
    path.chmod(0o644)
    path.write_text(path.read_text(encoding="utf-8") + "broken: [", encoding="utf-8")
    with pytest.raises(StoreError):
        store.open(2)
    assert former_groups(Follower(store), 3, "live", {}) == {"muse.first.live"}
