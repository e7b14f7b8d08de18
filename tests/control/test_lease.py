"""Small records that end by themselves, and leases, on both stores."""

import threading
from pathlib import Path

import pytest

from muse_stream.control import DirectoryStore, Held, Lease, Store
from muse_stream.errors import StoreError
from tests.patience import until


def test_a_record_is_put_only_over_what_was_expected(store: Store) -> None:
    assert store.ephemeral("x") is None
    assert store.set_ephemeral("x", b"one", 600, expected=None)
    assert not store.set_ephemeral("x", b"two", 600, expected=None)
    assert not store.set_ephemeral("x", b"two", 600, expected=b"other")
    assert store.ephemeral("x") == b"one"
    assert store.set_ephemeral("x", b"two", 600, expected=b"one")
    assert store.set_ephemeral("x", None, 0, expected=b"two")
    assert store.set_ephemeral("x", b"three", 600, expected=None)  # at once


def test_a_record_ends_by_itself(store: Store) -> None:
    assert store.set_ephemeral("x", b"one", 0.05, expected=None)
    until(lambda: store.ephemeral("x") is None, 10)
    until(lambda: store.set_ephemeral("x", b"two", 600, expected=None), 10)  # a disk's clock has ticks


def test_of_many_one_gets_the_lease_and_the_others_are_told_who(store: Store) -> None:
    with Lease(store, "promotion", "promotes card-v2"):
        with pytest.raises(Held, match="is at it: promotes card-v2"), Lease(store, "promotion", "another"):
            pass
        with Lease(store, "watch", "looks"):
            pass
    with Lease(store, "promotion", "another"):
        pass


def test_a_lease_lives_as_long_as_its_holder_and_no_longer(store: Store) -> None:
    """One that is not renewed, since its process was killed or stopped, ends; then its holder is told."""
    killed = Lease(store, "promotion", "promotes", seconds=0.3)
    killed._thread = threading.Thread(target=lambda: None)  # renews nothing
    killed.__enter__()
    killed.check()
    until(lambda: store.ephemeral("promotion") is None, 10)
    killed.check()  # nobody has taken it meanwhile
    until(lambda: store.set_ephemeral("promotion", b"free", 600, expected=None), 10)
    assert store.set_ephemeral("promotion", None, 0, expected=b"free")
    with Lease(store, "promotion", "takes over") as other:
        with pytest.raises(Held, match=r"lost: .* is at it: takes over"):
            killed.check()
        killed.__exit__(None, None, None)  # takes nothing away from the other
        other.check()


def test_a_lease_is_renewed_without_being_asked(store: Store) -> None:
    with Lease(store, "promotion", "promotes", seconds=2.0) as lease:
        before = threading.Event()
        renewed = store.set_ephemeral

        def seen(*given: object, **named: object) -> bool:
            before.set()
            return renewed(*given, **named)  # type: ignore[arg-type]

        store.set_ephemeral = seen  # type: ignore[method-assign]
        assert before.wait(60)
        lease.check()


def test_garbage_in_a_file_is_named(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    assert store.set_ephemeral("x", b"one", 600, expected=None)
    (tmp_path / "ephemeral" / "x.json").write_text("{")
    with pytest.raises(StoreError, match=r"x\.json: not what this store writes"):
        store.ephemeral("x")
