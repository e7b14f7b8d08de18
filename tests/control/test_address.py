"""The one door to a store: which addresses there are, and what is said of others."""

from pathlib import Path

import pytest

from muse_stream.config import Loaded
from muse_stream.control import DirectoryStore, is_store, open_store
from muse_stream.errors import StoreError


def test_a_folder_is_found_by_its_path_and_by_its_url(tmp_path: Path, loaded: Loaded) -> None:
    folder = tmp_path / "a store"
    number = DirectoryStore(folder).publish(loaded)
    for address in (folder, str(folder), folder.as_uri(), folder.as_uri().replace("file://", "file://localhost")):
        store = open_store(address)
        assert [one.number for one in store.list()] == [number]
        assert str(store) == str(folder)
        assert is_store(address)


def test_a_file_is_no_store_and_nothing_is_none(folder: Path) -> None:
    assert not is_store(folder / "muse.yaml")
    assert not is_store(str(folder / "nothing"))


@pytest.mark.parametrize("address", ["valkey://:hush@host:6379/0", "s3://bucket/store", "://x"])
def test_another_scheme_is_refused_with_what_is_right(address: str) -> None:
    with pytest.raises(StoreError, match=r"no generation store.*give its path, or file:///its/path") as refused:
        open_store(address)
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("address", ["file://", "file://elsewhere/store", "file:///store?x=1", "file:///store#x"])
def test_a_file_url_names_a_folder_of_this_machine(address: str) -> None:
    with pytest.raises(StoreError, match=r"not a folder of this machine; a store is a folder"):
        open_store(address)
