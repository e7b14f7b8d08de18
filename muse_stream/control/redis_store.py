"""The generation store in Redis: for workers on many machines.

All keys begin with a prefix (`muse` unless the address says otherwise):

    muse:current            what is current (control/records.py)
    muse:generation:N       a generation's manifest; written once
    muse:last               the highest number there is
    muse:file:SHA256        a file of any number of generations
    muse:incoming:RANDOM    a file that is being written; ends by itself after an hour
    muse:ephemeral:NAME     leases and verdicts, which end by themselves
    muse:durable:NAME       what the role `calibrate` has counted
    muse:durable-names      the names of these, in a set: a listing of keys would show all who share the Redis
    muse:moved              the channel that hints that `current` may have moved
    muse:heartbeat:...      what workers tell of themselves (`redis_heartbeats`)

A publish writes files first, under names that end by themselves; their places, the manifest and the number are given in
one transaction, which fails where one of the files has gone. Interrupted anywhere, it leaves neither a generation nor a
file of none. `current` is moved under WATCH. Times are Redis's, so that clocks of operators need not agree.

Each answer is waited for at most a second. Whatever Redis does is a `StoreError`; nothing that comes from it is trusted
before it was checked against its hash. `open` gives out a copy on this machine's disk (`local_copy`).
"""

import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import exceptions
from redis.sentinel import MasterNotFoundError

from muse_stream.control import store
from muse_stream.control.content import guarded, verified
from muse_stream.control.heartbeats import Beat, NotAllowed
from muse_stream.control.local_copy import LocalCopy
from muse_stream.control.records import Head, Manifest, digest_of
from muse_stream.control.redis_address import TIMEOUT_S, RedisAddress
from muse_stream.control.redis_heartbeats import RedisHeartbeats
from muse_stream.control.store import Entry, Generation, Note, Store
from muse_stream.errors import StoreError

if TYPE_CHECKING:
    from muse_stream.config import Loaded

PIECE = 1 << 20
"""Bytes of a file in one answer: Redis serves others in between."""
AT_ONCE = 8
"""Pieces asked for at once, so that a slow network costs few round trips."""
INCOMING_S = 3600
LARGEST = 512 << 20
"""Redis's own limit of one value."""
MOST = 100_000
"""Highest number that is believed."""
LISTED_AT_ONCE = 100
SOONEST_S = 0.1
"""Hints shorten a wait to this and no further: whoever sends many must not make workers busy."""
ROUNDS = 20


class RedisStore(Store):
    """Generations in a Redis; connects when first used."""

    shared = True

    def __init__(self, address: RedisAddress, *, cache: Path | None = None) -> None:
        self._address = address
        self._client = address.connect()
        self._copy = LocalCopy(str(address), cache)
        self._hints: Any = None
        self._heartbeats = RedisHeartbeats(self._client, address.prefix)

    def __str__(self) -> str:
        return str(self._address)

    def publish(self, loaded: "Loaded", note: Note | None = None) -> int:
        """Write the document and all its files; returns the new number, or the current one's if nothing differs."""
        from muse_stream.config import content_files  # noqa: PLC0415 - whoever only looks needs none of it

        note = note or Note()
        sources = content_files(loaded)
        document = loaded.source.path.name
        incoming: dict[str, str] = {}
        with self._asked(), guarded(loaded.root):
            hashes = {name: self._upload(source, incoming) for name, source in sources.items()}
            store.refuse_changed(loaded, hashes)
            hashes[document] = self._upload(loaded.source.data, incoming)
            for _ in range(ROUNDS):
                with suppress(exceptions.WatchError):
                    return self._commit(loaded, hashes, incoming, note)
        raise StoreError(f"{self}: others publish at the same time, again and again; nothing was published")

    def _commit(self, loaded: "Loaded", hashes: dict[str, str], incoming: dict[str, str], note: Note) -> int:
        """Put the new files in their places, and the manifest under the next number, in one step.

        Raises WatchError when another publisher took the number, or files went meanwhile.
        """
        document = loaded.source.path.name
        digest = digest_of(document, hashes)
        with self._client.pipeline() as pipe:
            needed = [incoming.get(one) or self._key("file", one) for one in dict.fromkeys(hashes.values())]
            pipe.watch(self._key("last"), self._key("current"), *needed)
            if self._client.exists(*needed) != len(needed):
                raise StoreError(f"{self}: lost files while they were published; nothing was published: do it again")
            found, last = self.head(), self._last()
            parent = found.number if found else None
            same = parent if store.has_content(self, parent, digest, note) else None
            if same is not None or store.taken_up(self, found, last, digest, note):
                self._place(pipe, incoming)  # a file of it may have been damaged
                self._execute(pipe, "whether the files were written")
                return same or last
            # a store that lost its memory must not give a number a second time
            number = 1 + max(last, parent or 0, store.remembered(self).number)
            pipe.watch(self._generation(number))
            while self._client.exists(self._generation(number)):  # `last` was lost, or another publisher is quicker
                number += 1
                pipe.watch(self._generation(number))
            if number > MOST:  # nobody would believe it, and nothing could be published ever after
                raise StoreError(f"{self}: has no number left for a generation: {MOST:,} is the highest")
            manifest = Manifest(
                *(number, digest, self._now(), parent, document, hashes),
                *(note.author, note.message, note.evidence, version("muse-stream")),
                lanes=loaded.document.lanes(),
            )
            self._place(pipe, incoming)
            pipe.set(self._generation(number), store.signed_manifest(manifest, note).to_json(), nx=True)
            pipe.set(self._key("last"), number)
            self._execute(pipe, "whether the generation was published")
            return number

    def _place(self, pipe: Any, incoming: dict[str, str]) -> None:
        """Begin the transaction that keeps the files that were written."""
        pipe.multi()
        for digest, key in incoming.items():
            pipe.persist(key)
            pipe.rename(key, self._key("file", digest))

    def head(self) -> Head | None:
        """Return what is current; None before the first `move_current`."""
        with self._asked():
            data = self._client.get(self._key("current"))
        return None if data is None else Head.read(_bytes(data), f"{self}: {self._key('current')}")

    def move_current(self, expected: int | None, new: int, note: Note | None = None) -> None:
        """Make `new` current if `expected` still is; raises `Conflict` and changes nothing otherwise."""
        note = note or Note()
        with self._asked():
            for _ in range(ROUNDS):
                with suppress(exceptions.WatchError), self._client.pipeline() as pipe:
                    pipe.watch(self._key("current"), self._generation(new))
                    found = self.head()
                    if (found.number if found else None) != expected:
                        raise store.conflict(expected, found, self.manifest)
                    known = store.remembered(self)
                    head = store.next_head(found, self._former(found), self.manifest(new), note, self._now(), known)
                    head = store.signed_head(head, note)
                    pipe.multi()
                    pipe.set(self._key("current"), head.to_json())
                    pipe.publish(self._key("moved"), new)
                    self._execute(pipe, "whether `current` moved")
                    self._remember(head)
                    return
        raise StoreError(f"{self}: `current` moves again and again; nothing was changed")

    def _remember(self, head: Head) -> None:
        with suppress(StoreError):  # a help for later, and no reason to call a move failed
            self.keep(head)

    def manifest(self, number: int) -> Manifest:
        """Return what a generation consists of; raises StoreError for one that is not there or damaged."""
        with self._asked():
            data = self._client.get(self._generation(number))
            if data is None:
                raise StoreError(store.absent(self, number, self._numbers()))
        return Manifest.read(_bytes(data), number, f"{self}: {self._generation(number)}")

    def open(self, number: int, sha256: str = "") -> Generation:
        """Return a verified copy on this machine's disk; fetches what it lacks.

        Where the store is away, or has lost or damaged the generation, the copy alone will do.
        """
        try:
            manifest = self.manifest(number)
            if sha256 and manifest.sha256 != sha256:
                raise StoreError(f"{self}: holds another generation {number} than the one that is current")
        except StoreError:
            copied = self._copy.find(number, sha256)
            if copied is None:
                raise
            manifest = copied
        path = self._copy.complete(manifest, self._fetch)
        return Generation(number, manifest.sha256, path, manifest.created, manifest.parent, manifest)

    def document(self, number: int) -> bytes:
        """Return the document of a generation, verified."""
        manifest = self.manifest(number)
        digest = manifest.files[manifest.document]
        key = self._key("file", digest)
        with self._asked():
            data = b"".join(self._pieces(key, self._client.strlen(key)))
        return verified(data, digest, f"{self}: {key}")

    def verify(self, number: int) -> None:
        """Read every file of a generation from Redis; raises StoreError naming the first that is not right."""
        with self._asked():
            for name, digest in self.manifest(number).files.items():
                if self._hash(digest) != digest:
                    raise StoreError(
                        f"{self}: {self._key('file', digest)}: {name} of generation {number} is missing, or not the "
                        "content that was published; publishing a configuration that has this file writes it again"
                    )

    def list(self) -> tuple[Entry, ...]:
        """Return all generations, oldest first; one that cannot be read has a `problem`."""
        found: list[Entry] = []
        with self._asked():
            last = self._last()
            for first in range(1, last + 1, LISTED_AT_ONCE):
                numbers = range(first, min(first + LISTED_AT_ONCE, last + 1))
                values = self._client.mget([self._generation(number) for number in numbers])
                if not found:  # numbers below the first were given before the store was emptied
                    numbers, values = _from_first(numbers, values)
                found += map(self._entry, numbers, values)
        return tuple(found)

    def kept(self) -> Head | None:
        """Return what was current when this machine last saw the store."""
        return self._copy.head()

    def keep(self, head: Head) -> None:
        """Remember what is current for a restart while the store is away."""
        self._copy.keep(head)

    def ephemeral(self, name: str) -> bytes | None:
        """Return a small record whose time is not over."""
        with self._asked():
            data = self._client.get(self._key("ephemeral", name))
        return _bytes(data) or None if data is not None else None

    def set_ephemeral(self, name: str, data: bytes | None, seconds: float, expected: bytes | None) -> bool:
        """Put a small record if it says what is expected."""
        key, ends_ms = self._key("ephemeral", name), 1 if data is None else int(seconds * 1000)
        with self._asked():
            for _ in range(ROUNDS):
                with suppress(exceptions.WatchError), self._client.pipeline() as pipe:
                    pipe.watch(key)
                    if (self._client.get(key) or None) != expected:  # what is taken away is empty for a millisecond
                        return False
                    pipe.multi()
                    pipe.set(key, data or b"", px=ends_ms)
                    self._execute(pipe, f"whether {key} was written")
                    return True
        raise StoreError(f"{self}: {key} changes again and again; nothing was written")

    def durable(self, name: str) -> bytes | None:
        """Return a record that stays."""
        with self._asked():
            data = self._client.get(self._key("durable", name))
        return None if data is None else _bytes(data)

    def set_durable(self, name: str, data: bytes | None, expected: bytes | None) -> bool:
        """Put a record that stays if it says what is expected."""
        key, names = self._key("durable", name), self._key("durable-names")
        with self._asked():
            for _ in range(ROUNDS):
                with suppress(exceptions.WatchError), self._client.pipeline() as pipe:
                    pipe.watch(key)
                    if self._client.get(key) != expected:
                        return False
                    pipe.multi()
                    if data is None:
                        pipe.delete(key)
                        pipe.srem(names, name)
                    else:
                        pipe.set(key, data)
                        pipe.sadd(names, name)
                    self._execute(pipe, f"whether {key} was written")
                    return True
        raise StoreError(f"{self}: {key} changes again and again; nothing was written")

    def durables(self, prefix: str) -> tuple[str, ...]:
        """Return the names of the records that stay and begin so."""
        with self._asked():
            names = self._client.smembers(self._key("durable-names"))
        return tuple(sorted(text for name in names if (text := _bytes(name).decode()).startswith(prefix)))

    def beat(self, name: str, data: bytes) -> None:
        """Keep a worker's heartbeat."""
        with self._asked():
            try:
                self._heartbeats.write(name, data)
            except exceptions.NoPermissionError as error:
                raise NotAllowed(f"{self}: {_meaning(error)}") from None

    def forget(self, name: str) -> None:
        """Take a heartbeat away."""
        with self._asked():
            self._heartbeats.remove(name)

    def beats(self) -> tuple[Beat, ...]:
        """Return the heartbeats that there are."""
        with self._asked():
            return self._heartbeats.read()

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or sooner when Redis hints that `current` may have moved."""
        end = time.monotonic() + seconds
        time.sleep(min(SOONEST_S, seconds))
        try:
            if self._hints is None:
                self._hints = self._client.pubsub(ignore_subscribe_messages=True)
                self._hints.subscribe(self._key("moved"))
            while (left := end - time.monotonic()) > 0:
                if self._hints.get_message(timeout=left):
                    return
        except (exceptions.RedisError, OSError, StoreError):  # a hint is a help: polling finds out as well
            self._drop_hints()
            time.sleep(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """Let go of all connections."""
        self._drop_hints()
        self._client.close()

    def _drop_hints(self) -> None:
        hints, self._hints = self._hints, None
        if hints is not None:
            with suppress(exceptions.RedisError, OSError):
                hints.close()

    def _key(self, *parts: object) -> str:
        return ":".join([self._address.prefix, *map(str, parts)])

    def _generation(self, number: int) -> str:
        return self._key("generation", number)

    def _last(self) -> int:
        data = self._client.get(self._key("last"))
        text = b"0" if data is None else _bytes(data)
        if not (text.isdigit() and len(text) < 10 and int(text) <= MOST):
            raise StoreError(f"{self}: {self._key('last')}: not what this store writes; expected a number")
        return int(text)

    def _numbers(self) -> Sequence[int]:
        return [entry.number for entry in self.list() if not entry.problem]

    def _entry(self, number: int, data: Any) -> Entry:
        where = f"{self}: {self._generation(number)}"
        if data is None:
            return Entry(number, problem=f"{where}: is missing")
        try:
            return Entry.of(Manifest.read(_bytes(data), number, where))
        except StoreError as error:
            return Entry(number, problem=str(error))

    def _now(self) -> datetime:
        seconds, microseconds = self._client.time()
        return datetime.fromtimestamp(seconds, UTC).replace(microsecond=microseconds)

    def _upload(self, content: bytes | Path, incoming: dict[str, str]) -> str:
        """Write a file unless Redis has it, verified; returns the sha256 of what was written.

        What is written ends by itself: its key is put into `incoming`, and the transaction of the manifest keeps it.
        """
        digest, size = sha256(), 0
        for block in _blocks(content):
            digest.update(block)
            size += len(block)
        if size > LARGEST:
            what = content if isinstance(content, Path) else "the document"
            raise StoreError(f"{what}: {size:,} bytes, and a file in Redis has at most {LARGEST:,}")
        if self._hash(digest.hexdigest(), size) == digest.hexdigest():
            return digest.hexdigest()
        key, digest = self._key("incoming", uuid.uuid4().hex), sha256()
        self._client.set(key, b"", ex=INCOMING_S)
        for block in _blocks(content):  # the hash is of what is written, not of a second reading
            digest.update(block)
            self._client.append(key, block)
        incoming[digest.hexdigest()] = key
        return digest.hexdigest()

    def _hash(self, digest: str, size: int | None = None) -> str:
        """Return the sha256 of a file in Redis; nothing where it is missing, no file, or not of this size."""
        key, found = self._key("file", digest), sha256()
        try:
            length = self._client.strlen(key)
            if size is not None and length != size:
                return ""
            for piece in self._pieces(key, length):
                found.update(piece)
        except exceptions.ResponseError as error:
            if isinstance(error, exceptions.NoPermissionError) or "WRONGTYPE" not in str(error):
                raise
            return ""
        return found.hexdigest()

    def _fetch(self, digest: str, target: Path) -> None:
        key = self._key("file", digest)
        with self._asked():
            length = self._client.strlen(key)
            if not length and digest != sha256().hexdigest():
                raise StoreError(f"{self}: {key}: is missing")
            found = sha256()
            with target.open("xb") as file:
                for piece in self._pieces(key, length):
                    found.update(piece)
                    file.write(piece)
            if found.hexdigest() != digest:
                raise StoreError(f"{self}: {key}: not the content that was published (sha256 differs)")

    def _pieces(self, key: str, length: int) -> Iterator[bytes]:
        for first in range(0, length, PIECE * AT_ONCE):
            with self._client.pipeline(transaction=False) as pipe:
                for start in range(first, min(first + PIECE * AT_ONCE, length), PIECE):
                    pipe.getrange(key, start, start + PIECE - 1)
                yield from map(_bytes, pipe.execute())

    def _execute(self, pipe: Any, doubt: str) -> None:
        """Carry a transaction out; where no answer comes, say that the outcome is not known."""
        try:
            pipe.execute()
        except (exceptions.ConnectionError, exceptions.TimeoutError) as error:
            if isinstance(error, exceptions.AuthenticationError | exceptions.BusyLoadingError):
                raise
            pipe.watching = False  # leaving the pipeline would ask once more, and wait again
            told = f"{self}: {_short(error)}: no answer to the last step, so {doubt} is not known"
            raise StoreError(f"{told}: look with `muse-stream generations` before trying again") from error

    @contextmanager
    def _asked(self) -> Iterator[None]:
        """Raise whatever Redis or the network does as StoreError."""
        try:
            yield
        except exceptions.WatchError:
            raise
        except exceptions.RedisError as error:
            raise StoreError(f"{self}: {_meaning(error)}") from error
        except (OSError, UnicodeError) as error:
            raise StoreError(f"{self}: {_short(error)}") from error


def _meaning(error: exceptions.RedisError) -> str:
    """Return what an error of redis-py means to an operator."""
    if isinstance(error, MasterNotFoundError):
        return _no_master(str(error))
    text = _short(error)
    for kind, means in _MEANINGS:
        if isinstance(error, kind):
            return means(text)
    return text


_MEANINGS: tuple[tuple[type[Exception], Callable[[str], str]], ...] = (
    (exceptions.NoPermissionError, lambda text: f"the user may not do this: {text}; see docs/redis-security.md"),
    (
        exceptions.AuthenticationError,
        lambda text: f"user or password refused: {text}; see MUSE_STORE_PASSWORD and docs/redis-security.md",
    ),
    (exceptions.BusyLoadingError, lambda _: "Redis is still loading its data"),
    (exceptions.ReadOnlyError, lambda _: "this Redis is a replica and takes no writes; name the master"),
    (exceptions.TimeoutError, lambda _: f"no answer within {TIMEOUT_S:g} s"),
)


def _from_first(numbers: range, values: list[Any]) -> tuple[range, list[Any]]:
    missing = next((place for place, value in enumerate(values) if value is not None), len(values))
    return numbers[missing:], values[missing:]


def _no_master(text: str) -> str:
    """Return why no Sentinel gave a master; redis-py puts each one's answer behind a description of its client."""
    told, *answers = re.split(r"(?: :|,) <redis\.client\.Redis\(", text)
    causes = dict.fromkeys(answer.rpartition(")>)> - ")[2] for answer in answers)
    if not causes:
        return f"{told}: the Sentinels know no master of this name, or none that is up"
    return f"{told}: {_short('; '.join(causes))}; see docs/redis-security.md"


def _short(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    raise StoreError(f"Redis answered {type(value).__name__} where bytes were expected")


def _blocks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[start : start + PIECE] for start in range(0, len(content), PIECE))
        return
    with content.open("rb") as file:
        while block := file.read(PIECE):
            yield block
