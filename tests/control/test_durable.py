"""Small records that stay, on both stores."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from muse_stream.control import DirectoryStore, Store, open_store
from muse_stream.testing import Redis


@pytest.fixture(params=["directory", "redis"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> Callable[[], Store]:
    """Give one more door to the same store, as another process has."""
    if request.param == "directory":
        return lambda: DirectoryStore(tmp_path / "store")
    redis: Redis = request.getfixturevalue("redis")
    address = f"{redis.url}?prefix={unique('muse')}"
    return lambda: open_store(address)


@pytest.fixture
def store(open_again: Callable[[], Store]) -> Iterator[Store]:
    opened = open_again()
    yield opened
    opened.close()


def test_a_record_is_replaced_only_by_who_knows_what_it_says(store: Store, open_again: Callable[[], Store]) -> None:
    data = bytes(range(256)) * 100
    assert store.durable("a~1") is None
    assert store.set_durable("a~1", data, None)
    assert not store.set_durable("a~1", b"other", None)
    assert not store.set_durable("a~1", b"other", b"else")
    other = open_again()
    assert other.durable("a~1") == data
    assert other.set_durable("a~1", b"", data)
    assert store.durable("a~1") == b""
    other.close()


def test_records_are_listed_by_how_their_names_begin_until_they_are_taken_away(store: Store) -> None:
    assert store.durables("") == ()
    for name in ("b~1", "a~2", "a~1"):
        assert store.set_durable(name, name.encode(), None)
    assert store.durables("a~") == ("a~1", "a~2")
    assert not store.set_durable("a~1", None, b"else")
    assert store.set_durable("a~1", None, b"a~1")
    assert store.set_durable("c", None, None)  # there is none, and that was expected
    assert store.durables("") == ("a~2", "b~1")
    assert store.durable("a~1") is None


def test_no_change_of_two_who_write_at_once_is_lost(store: Store, open_again: Callable[[], Store]) -> None:
    def count(times: int) -> None:
        own = open_again()
        for _ in range(times):
            while True:
                found = own.durable("sum")
                if own.set_durable("sum", str(int(found or b"0") + 1).encode(), found):
                    break
        own.close()

    threads = [threading.Thread(target=count, args=(20,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.durable("sum") == b"60"
