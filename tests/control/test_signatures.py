"""Signed generations, in each kind of store: who is trusted serves, everything else is refused and changes nothing."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from muse_stream import environment
from muse_stream.cli.main import main
from muse_stream.config import Loaded, load_document
from muse_stream.control import (
    DirectoryStore,
    Follower,
    Generation,
    Note,
    Signer,
    Store,
    TrustedKeys,
    Watcher,
    generate,
    rollback,
)
from muse_stream.control.redis_store import RedisStore
from muse_stream.errors import StoreError
from tests.patience import until

Edited = Callable[[Loaded, str], Loaded]
Change = Callable[[dict[str, Any]], object]


class Keys:
    """Two signers, of whom the workers know the first."""

    def __init__(self, folder: Path) -> None:
        self.trusted = folder / "trusted.pub"
        self.trusted.write_text("# who releases\n\n" + generate(folder / "release.pem", "release") + "\n")
        generate(folder / "other.pem", "other")
        self.release, self.other = Signer.read(folder / "release.pem"), Signer.read(folder / "other.pem")

    def note(self, who: Signer | None = None, message: str = "") -> Note:
        return Note(message, signer=who or self.release)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "keys").mkdir()
    return Keys(tmp_path / "keys")


def put(store: Store, loaded: Loaded, note: Note) -> int:
    """Publish and make current."""
    number = store.publish(loaded, note)
    store.move_current(store.current(), number, note)
    return number


def record(store: Store, number: int | None) -> tuple[Callable[[], bytes], Callable[[bytes], object]]:
    """How the record of a generation (None: of what is current) is read and written past all checks."""
    if isinstance(store, DirectoryStore):
        path = store.path / ("current" if number is None else f"generations/{number:06d}/manifest.json")
        return path.read_bytes, path.write_bytes
    redis = cast(RedisStore, store)
    client: Any = redis._client
    key = redis._key("current") if number is None else redis._generation(number)
    return lambda: client.get(key), lambda data: client.set(key, data)


def altered(store: Store, number: int | None, change: Change) -> None:
    read, write = record(store, number)
    content = json.loads(read())
    change(content)
    write(json.dumps(content).encode())


def served(store: Store, keys: Keys) -> int:
    """What a worker that saw nothing before would serve."""
    source = Follower(store, keys.trusted)
    head = source.head()
    assert head is not None
    return source.open(head.number, head.sha256).number


def refused(store: Store, keys: Keys) -> str:
    with pytest.raises(StoreError) as error:
        served(store, keys)
    return str(error.value)


def test_what_is_signed_is_served_and_so_is_an_old_generation_after_a_rollback(
    store: Store, loaded: Loaded, edited: Edited, keys: Keys
) -> None:
    assert put(store, loaded, keys.note()) == 1
    assert served(store, keys) == 1
    assert put(store, edited(loaded, "second"), keys.note()) == 2
    follower = Follower(store, keys.trusted)
    head = follower.head()
    assert head is not None
    assert load_document(follower.open(2, head.sha256).path).document == loaded.document
    assert rollback(store, note=keys.note()) == 1
    assert follower.head() is not None
    assert served(store, keys) == 1
    assert [entry.signed_by for entry in store.list()] == [keys.release.key] * 2


def test_without_trusted_keys_signatures_are_not_asked_for(store: Store, loaded: Loaded, keys: Keys) -> None:
    put(store, loaded, keys.note(keys.other))
    source = Follower(store)
    assert source.open(*source.candidates(source.first()[0])[0]).number == 1


@pytest.mark.parametrize("what", ["nothing", "generation", "move"])
def test_what_is_not_signed_is_refused(store: Store, loaded: Loaded, keys: Keys, what: str) -> None:
    """Nothing of it, the generation alone, or the move alone."""
    nobody = Note(signer=None)
    number = store.publish(loaded, keys.note() if what == "generation" else nobody)
    store.move_current(None, number, keys.note() if what == "move" else nobody)
    said = refused(store, keys)
    assert "is not signed; publish it with --sign-key, by one of release (" in said
    assert ("that generation 1 is current is not signed" in said) is (what != "move")


def test_a_signer_whom_nobody_trusts_is_refused_until_the_key_is_added(
    store: Store, loaded: Loaded, keys: Keys
) -> None:
    """The file of keys is read at every look: a key is added, and taken away, without a restart."""
    put(store, loaded, keys.note(keys.other))
    assert f"is signed by a key that is not trusted here ({keys.other.key})" in refused(store, keys)
    before = keys.trusted.read_text()
    keys.trusted.write_text(f"{before}{keys.other.key} other\n")
    assert served(store, keys) == 1
    keys.trusted.write_text(before)
    assert "not trusted here" in refused(store, keys)


NOT_OF_IT = "bears a signature of release that is not of it: it was altered, or copied there"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content.update(author="mallory"), id="author"),
        pytest.param(lambda content: content.update(evidence={"events": 1}), id="evidence"),
        pytest.param(lambda content: content.update(later="a key of a newer release"), id="key"),
        pytest.param(lambda content: content.pop("lanes"), id="key-gone"),
    ],
)
def test_an_altered_manifest_is_refused(store: Store, loaded: Loaded, keys: Keys, change: Change) -> None:
    put(store, loaded, keys.note())
    altered(store, 1, change)
    assert NOT_OF_IT in refused(store, keys)


def test_altered_files_are_refused_with_hashes_made_to_fit(
    store: Store, loaded: Loaded, edited: Edited, keys: Keys
) -> None:
    """Another content under the number and signature of a signed one: all hashes are right, the signature is not."""
    put(store, loaded, keys.note())
    put(store, edited(loaded, "planted"), Note(signer=None))
    read, write = record(store, 1)
    signed = json.loads(read())
    planted = json.loads(record(store, 2)[0]())
    write(json.dumps({**planted, "number": 1, "signature": signed["signature"]}).encode())
    if isinstance(store, DirectoryStore):
        folders = [store.path / "generations" / f"{number:06d}" / "content" for number in (1, 2)]
        shutil.rmtree(folders[0])
        shutil.copytree(folders[1], folders[0])
    with pytest.raises(StoreError, match="is not of it"):
        Follower(store, keys.trusted).open(1)


def test_a_signature_is_good_for_no_other_number(store: Store, loaded: Loaded, edited: Edited, keys: Keys) -> None:
    """An old signed generation, with its signature, under a number that was never signed; and pointed to unsigned."""
    put(store, loaded, keys.note())
    put(store, edited(loaded, "second"), keys.note())
    first = json.loads(record(store, 1)[0]())
    record(store, 2)[1](json.dumps({**first, "number": 2}).encode())
    if isinstance(store, DirectoryStore):
        shutil.rmtree(store.path / "generations" / "000002" / "content")
        shutil.copytree(store.path / "generations/000001/content", store.path / "generations/000002/content")
    altered(store, None, lambda content: content.update(sha256=first["sha256"]))
    assert f"that generation 2 is current {NOT_OF_IT}" in refused(store, keys)
    with pytest.raises(StoreError, match="generation 2 bears a signature of release that is not of it"):
        Follower(store, keys.trusted).open(2)


def test_what_was_current_cannot_be_made_so_again_by_who_cannot_sign(
    store: Store, loaded: Loaded, edited: Edited, keys: Keys
) -> None:
    """A record of `current` that was signed once is older than what the worker saw; its sequence cannot be raised."""
    put(store, loaded, keys.note())
    old = record(store, None)[0]()
    put(store, edited(loaded, "second"), keys.note())
    follower = Follower(store, keys.trusted)
    head = follower.head()
    assert head is not None
    follower.open(head.number, head.sha256)
    record(store, None)[1](old)
    with pytest.raises(StoreError, match="is older than what was current here"):
        follower.head()
    altered(store, None, lambda content: content.update(sequence=head.sequence + 1))
    with pytest.raises(StoreError, match="is not of it"):
        follower.head()


@pytest.mark.parametrize("kind", [("generation", "current"), ("current", "generation")])
def test_a_signature_is_good_for_no_other_kind_of_record(keys: Keys, kind: tuple[Any, Any]) -> None:
    signed = keys.release.sign(b'{"number": 1}', kind[0])
    trusted = TrustedKeys.read(keys.trusted)
    assert trusted.check(signed, kind[0], "it") == "release"
    with pytest.raises(StoreError, match="it bears a signature of release that is not of it"):
        trusted.check(signed, kind[1], "it")


@pytest.mark.parametrize(
    "signature",
    [
        "text",
        {},
        {"key": "ed25519:AAAA", "value": "AAAA"},
        {"key": "rsa:AAAA", "value": "AAAA"},
        {"key": 1, "value": None},
        {"key": "ed25519:" + "A" * 43 + "=", "value": "A" * 86 + "==", "more": 1},
        {"key": "ed25519:" + "A" * 42 + "B=", "value": "A" * 86 + "=="},
    ],
)
def test_a_signature_that_is_none_is_a_broken_record(
    store: Store, loaded: Loaded, keys: Keys, signature: object
) -> None:
    """Also where nobody asks for signatures; the text of it is not repeated."""
    put(store, loaded, keys.note())
    altered(store, 1, lambda content: content.update(signature=signature))
    with pytest.raises(StoreError, match="torn or not a manifest"):
        store.manifest(1)


def test_a_signature_of_another_is_swapped_in_vain(store: Store, loaded: Loaded, keys: Keys) -> None:
    """The trusted key's name over another's signature, and the other way round."""
    put(store, loaded, keys.note())
    content = json.loads(record(store, 1)[0]())
    other = json.loads(keys.other.sign(json.dumps(content).encode(), "generation"))["signature"]
    altered(store, 1, lambda one: one.update(signature={**other, "key": keys.release.key}))
    assert NOT_OF_IT in refused(store, keys)
    altered(store, 1, lambda one: one.update(signature={**content["signature"], "key": keys.other.key}))
    assert "not trusted here" in refused(store, keys)


def test_a_running_worker_goes_on_with_the_last_good_generation(
    store: Store, loaded: Loaded, edited: Edited, keys: Keys
) -> None:
    """Through everything that is refused; it takes the next one that is signed."""
    put(store, loaded, keys.note())
    source = Follower(store, keys.trusted)
    head, _ = source.first()
    first = source.open(head.number, head.sha256)
    taken: list[Generation] = []
    with Watcher(source, lambda one: one, 0.02, first=(head, first)) as watcher:
        taken.append(cast(Generation, watcher.take()))
        put(store, edited(loaded, "unsigned"), Note(signer=None))
        until(lambda: "is not signed" in watcher.problem, 30)
        assert watcher.take() is None
        put(store, edited(loaded, "by another"), keys.note(keys.other))
        until(lambda: "not trusted here" in watcher.problem, 30)
        assert watcher.take() is None
        keys.trusted.rename(keys.trusted.with_suffix(".away"))
        until(lambda: "the trusted keys cannot be read" in watcher.problem, 30)
        keys.trusted.with_suffix(".away").rename(keys.trusted)
        assert put(store, edited(loaded, "signed"), keys.note()) == 4
        until(lambda: watcher.problem == "", 30)
        taken.append(cast(Generation, watcher.take()))
    assert [one.number for one in taken] == [1, 4]


def test_a_signed_copy_serves_while_the_store_is_away(store: Store, loaded: Loaded, keys: Keys) -> None:
    """Only a store that machines share keeps one: what it says is current is checked again, with the keys of then."""
    put(store, loaded, keys.note())
    assert served(store, keys) == 1
    record(store, None)[1](b"garbage")
    source = Follower(store, keys.trusted)
    if isinstance(store, DirectoryStore):
        with pytest.raises(StoreError, match="has no copy"):
            source.first()
        return
    head, why = source.first()
    assert (head.number, "not what this store writes" in why) == (1, True)
    assert source.open(head.number, head.sha256).number == 1
    keys.trusted.write_text(f"{keys.other.key} other\n")
    with pytest.raises(StoreError, match="not trusted here"):
        Follower(store, keys.trusted).first()


def test_what_is_loaded_is_a_copy_that_the_writer_of_the_store_cannot_change(
    store: Store, loaded: Loaded, keys: Keys
) -> None:
    put(store, loaded, keys.note())
    source = Follower(store, keys.trusted)
    opened = source.open(1)
    if isinstance(store, DirectoryStore):
        assert store.path not in opened.path.parents
        (store.path / "generations/000001/content/muse.yaml").write_text("planted: 1\n")
    assert load_document(opened.path).document == loaded.document


def test_the_same_content_is_published_again_to_be_signed(store: Store, loaded: Loaded, keys: Keys) -> None:
    put(store, loaded, Note(signer=None))
    assert put(store, loaded, keys.note()) == 2
    assert served(store, keys) == 2
    assert store.publish(loaded, keys.note()) == 2, "signed already"
    assert store.publish(loaded, keys.note(keys.other)) == 3, "by somebody else"


def test_two_publishers_at_once_sign_numbers_of_their_own(
    store: Store, loaded: Loaded, edited: Edited, keys: Keys
) -> None:
    documents = [edited(loaded, f"number {n}") for n in range(3)]
    threads = [threading.Thread(target=store.publish, args=(one, keys.note())) for one in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trusted = TrustedKeys.read(keys.trusted)
    for number in (1, 2, 3):
        assert trusted.check(store.manifest(number).to_json(), "generation", "it") == "release"


def test_commands_sign_and_show_who_did(
    tmp_path: Path, folder: Path, keys: Keys, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the option and by the variable; what is made from an unsigned generation is not signed with it."""
    store = str(tmp_path / "store")
    key = str(tmp_path / "keys" / "release.pem")
    assert main(["publish", str(folder / "muse.yaml"), store, "--yes", "--sign-key", key]) == 0
    assert main(["pause", "acme", "--store", store, "--yes"]) == 0  # nobody signs
    monkeypatch.setenv("MUSE_TRUSTED_KEYS_FILE", str(keys.trusted))
    capsys.readouterr()
    assert main(["status", store]) == 1
    assert "generation 2" in (shown := capsys.readouterr().out)
    assert "is not signed" in shown
    monkeypatch.setenv("MUSE_SIGN_KEY_FILE", key)
    assert main(["resume", "acme", "--store", store, "--yes"]) == 1
    assert "generation 2, which this is made from, is not signed" in capsys.readouterr().err
    assert DirectoryStore(store).current() == 2
    assert main(["rollback", store, "--yes"]) == 0
    assert main(["pause", "acme", "--store", store, "--yes"]) == 0
    capsys.readouterr()
    main(["status", store])
    assert "signed by release" in (shown := capsys.readouterr().out)
    assert "signed;" not in shown
    assert served(DirectoryStore(store), keys) == 3
    assert main(["generations", store]) == 0
    assert capsys.readouterr().out.count("release") == 2


def test_keys_are_made_once_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bank.pem"
    assert main(["keys", "generate", str(file), "--name", "bank-2026"]) == 0
    line = capsys.readouterr().out.strip()
    assert (tmp_path / "bank.pem.pub").read_text().strip() == line
    assert line.startswith("ed25519:")
    assert file.stat().st_mode & 0o777 == 0o600
    assert main(["keys", "show", str(file), "--name", "bank-2026"]) == 0
    assert capsys.readouterr().out.strip() == line
    before = file.read_bytes()
    assert main(["keys", "generate", str(file)]) == 1
    assert "a key is never written over" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a key without a password"),
        (
            b"-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n",
            "cannot be read as a key without a password",
        ),
    ],
)
def test_a_file_that_is_no_key_is_named_and_not_shown(
    tmp_path: Path, folder: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(content)
    assert main(["publish", str(folder / "muse.yaml"), str(tmp_path / "store"), "--yes", "--sign-key", str(key)]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert "hush" not in told
    assert DirectoryStore(tmp_path / "store").current() is None
    assert not environment.read("MUSE_SIGN_KEY_FILE"), "what a command was given ends with it"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no key"),
        ("ed25519:AAAA release", ":1: not a public key"),
        ("\nssh-ed25519 AAAA me", ":2: not a public key"),
        ("KEY", "the key has no name"),
        ("KEY two words", "the key has no name"),
    ],
)
def test_a_file_of_trusted_keys_is_read_strictly(tmp_path: Path, keys: Keys, text: str, said: str) -> None:
    """What is wrong ends the start of a run, and nothing is served unchecked."""
    file = tmp_path / "trusted"
    file.write_text(text.replace("KEY", keys.release.key))
    with pytest.raises(StoreError, match=said):
        TrustedKeys.read(file)
    assert main(["run", "--role", "live", "--store", str(tmp_path), "--trusted-keys", str(file)]) != 0
