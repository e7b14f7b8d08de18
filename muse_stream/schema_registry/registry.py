"""Ids and fingerprints to schemas, without anybody waiting for the network.

What is not known is asked for in a thread of its own: new questions before those that were asked already, so that ids
which somebody invents delay nobody else. Whoever needs it waits a moment, and is then told by `SchemaPending` that it
has to wait; `ready` of that says when there is an answer.

The registry answers that it does not have an id: it may be a replica that is a little behind, so it is asked again for
`GRACE_S`, and then the id is unknown for `UNKNOWN_S`. While ids have been given up lately others are given
`SHORT_GRACE_S`. A registry that does not answer says nothing about an id: it is asked until it does.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol, TypeAlias

from msgspec import Struct

from muse_stream import environment, telemetry
from muse_stream.avro import Schema, parse_schema
from muse_stream.config import RegistrySettings
from muse_stream.errors import RegistryError, SchemaError, SchemaPending
from muse_stream.schema_registry.cache import SchemaCache
from muse_stream.schema_registry.client import Client, Unknown

WAIT_S = 10.0
"""How long a command waits for an answer; workers say less."""
GRACE_S = 10.0
SHORT_GRACE_S = 1.0
UNKNOWN_S = 60.0
FIRST_S, LAST_S = 0.1, 5.0
"""Between two questions about the same."""
MOST_UNKNOWN = 100_000
"""Ids that are remembered as unknown."""
STALE_S = 60.0
"""For so long a question that was not answered says that the registry is away; whoever waits asks more often."""
MOST_PENDING = 1_000
"""Ids that may be asked for at the same time; one more is unknown, as ids are then that somebody invents."""

Fingerprint: TypeAlias = tuple[bytes, tuple[str, ...]]
"""A fingerprint, and the subjects whose versions may have it."""
Key: TypeAlias = int | Fingerprint


class Source(Protocol):
    """What is asked of a client."""

    @property
    def url(self) -> str:
        """Where the registry is."""

    def text(self, schema_id: int) -> str:
        """Return a schema's text."""

    def versions(self, subject: str) -> list[int]:
        """Return a subject's versions."""

    def version(self, subject: str, version: int) -> tuple[int, int, str]:
        """Return id, version and text of one."""

    def registered(self, subject: str, text: str) -> int | None:
        """Return a schema's id under a subject."""


class _Question(Struct):
    """Something that is asked for."""

    at: float
    """When it is asked next."""
    times: int = 0
    missing_since: float | None = None
    """Since when the registry says that it does not have it."""
    error: str = "asked, and no answer yet"


class Registry:
    """What one registry has told. Safe in several threads."""

    def __init__(
        self,
        client: Source,
        cache: SchemaCache,
        wait_s: float = WAIT_S,
        grace_s: float = GRACE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._cache, self._clock = client, cache, clock
        self.wait_s = wait_s
        """How long whoever needs a schema waits for an answer."""
        self._grace_s = grace_s
        self._log = telemetry.logger("schema_registry")
        self._changed = threading.Condition()
        self._found: dict[Key, Schema | SchemaError] = {}
        self._unknown: OrderedDict[Key, float] = OrderedDict()
        """Key -> when it may be asked for again."""
        self._questions: dict[Key, _Question] = {}
        self._versions: dict[tuple[str, int], Schema | None] = {}
        """Subject and version -> schema; None where it cannot be used."""
        self._thread: threading.Thread | None = None
        self._given_up_at = float("-inf")
        self._away: tuple[str, float] | None = None
        """Why the registry does not answer, and when it was asked; None while it does."""

    @property
    def url(self) -> str:
        """Where the registry is."""
        return self._client.url

    @property
    def away(self) -> str:
        """Why the registry did not answer the last question; empty when it did, or nobody has asked for a while."""
        away = self._away
        return away[0] if away is not None and self._clock() - away[1] < STALE_S else ""

    @property
    def waiting(self) -> int:
        """How many schemas are asked for and not told yet; events that need them wait."""
        return len(self._questions)

    def expect(self, keys: Sequence[Key]) -> None:
        """Ask for what is not known of these, and wait a moment for the answers."""
        missing = [key for key in keys if self._known(key) is None]
        if not missing:
            return
        until = self._clock() + self.wait_s
        with self._changed:
            fresh = [key for key in missing if key not in self._questions]
            for key in fresh:
                if len(self._questions) >= MOST_PENDING:
                    self._give_up(key)
                else:
                    self._questions[key] = _Question(self._clock())
            self._run()
            self._changed.notify_all()
            while any(key in self._questions for key in fresh) and (left := until - self._clock()) > 0:
                self._changed.wait(left)

    def schema(self, key: Key) -> Schema:
        """Return a schema. Raises SchemaPending where it must be waited for, SchemaError where there is none."""
        known = self._known(key)
        if known is None:
            self.expect([key])
            known = self._known(key)
        if known is None:
            question = self._questions.get(key)
            why = question.error if question else "asked"
            raise SchemaPending(f"{_named(key)}: {why}", lambda: key not in self._questions)
        if isinstance(known, SchemaError):
            raise known
        return known

    def subjects(self, names: Sequence[str]) -> list[Schema]:
        """Ask, and wait, for all versions of subjects that can be used. Raises RegistryError."""
        versions = [(name, version) for name in names for version in self._client.versions(name)]
        return [found for name, version in versions if (found := self._version(name, version)) is not None]

    def registered(self, subject: str, text: str) -> int | None:
        """Return the id of a schema under a subject, from disk or asked and waited for; None: it is not registered.

        Raises RegistryError.
        """
        found = self._cache.read_id(subject, text)
        if found is None:
            try:
                found = self._client.registered(subject, text)
            except RegistryError as error:
                self._silent(str(error))
                raise
            self._answers()
            if found is not None:
                self._cache.write_id(subject, text, found)
        return found

    def _known(self, key: Key) -> Schema | SchemaError | None:
        found = self._found.get(key)
        if found is None and isinstance(key, int) and (text := self._cache.read(key)) is not None:
            found = self._take(key, text)
        if found is None and (until := self._unknown.get(key)) is not None:
            if self._clock() < until:
                return SchemaError(f"{_named(key)} is not in the registry {self.url}")
            with self._changed:
                self._unknown.pop(key, None)
        return found

    def _take(self, key: int, text: str) -> Schema | SchemaError:
        """Note what an id means. A schema that no decoder takes is one for good."""
        try:
            found: Schema | SchemaError = parse_schema(text, file=_named(key), schema_id=key)
        except SchemaError as error:
            found = error
        self._found[key] = found
        return found

    def _run(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._work, name="schema-registry", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            with self._changed:
                while (key := self._next()) is None:
                    self._changed.wait(self._pause())
                question = self._questions[key]
            try:
                self._ask(key, question)
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread must go on asking
                self._again(question, f"{self.url}: {error!r}"[:300])
            with self._changed:
                self._changed.notify_all()

    def _next(self) -> Key | None:
        """Return what is to be asked now: what was asked least often."""
        now = self._clock()
        due = [(question.times, question.at, key) for key, question in self._questions.items() if question.at <= now]
        return min(due, key=lambda one: one[:2])[2] if due else None

    def _pause(self) -> float | None:
        at = min((question.at for question in self._questions.values()), default=None)
        return None if at is None else max(at - self._clock(), 0.001)

    def _ask(self, key: Key, question: _Question) -> None:
        try:
            found = self._look_up(key)
        except Unknown as error:
            self._answers()
            self._missing(key, question, str(error))
        except RegistryError as error:
            self._silent(str(error))
            self._again(question, str(error))
        except SchemaError as error:
            self._answers()
            self._settle(key, error)
        else:
            self._answers()
            self._settle(key, found)

    def _silent(self, why: str) -> None:
        if self._away is None:
            self._log.warning("schema_registry_away", error=why)
        self._away = why, self._clock()

    def _answers(self) -> None:
        if self._away is not None:
            self._away = None
            self._log.info("schema_registry_answers", url=self.url)

    def _look_up(self, key: Key) -> Schema:
        if isinstance(key, int):
            text = self._client.text(key)
            schema = parse_schema(text, file=_named(key), schema_id=key)
            self._cache.write(key, text)
            return schema
        fingerprint, subjects = key
        for subject in subjects:
            for version in self._client.versions(subject):
                schema_of = self._version(subject, version)
                if schema_of is not None and schema_of.fingerprint == fingerprint:
                    return schema_of
        raise Unknown(f"no version of {', '.join(subjects)} has the fingerprint")

    def _version(self, subject: str, version: int) -> Schema | None:
        if (subject, version) not in self._versions:
            try:
                number, _, text = self._client.version(subject, version)
                self._versions[subject, version] = parse_schema(text, file=f"{subject} version {version}")
                self._cache.write(number, text)
            except (Unknown, SchemaError):
                self._versions[subject, version] = None
        return self._versions[subject, version]

    def _missing(self, key: Key, question: _Question, error: str) -> None:
        now = self._clock()
        if question.missing_since is None:
            question.missing_since = now
        lately = now - self._given_up_at < UNKNOWN_S
        if now - question.missing_since < (min(SHORT_GRACE_S, self._grace_s) if lately else self._grace_s):
            self._again(question, f"{error}; asked again for {self._grace_s:g} s")
            return
        with self._changed:
            self._given_up_at = now
            self._questions.pop(key, None)
            self._give_up(key)

    def _give_up(self, key: Key) -> None:
        self._unknown[key] = self._clock() + UNKNOWN_S
        while len(self._unknown) > MOST_UNKNOWN:
            self._unknown.popitem(last=False)

    def _settle(self, key: Key, found: Schema | SchemaError) -> None:
        with self._changed:
            self._found[key] = found
            self._questions.pop(key, None)

    def _again(self, question: _Question, error: str) -> None:
        question.times += 1
        question.error = error
        question.at = self._clock() + min(FIRST_S * 2 ** min(question.times, 10), LAST_S)


def _named(key: Key) -> str:
    return f"schema id {key}" if isinstance(key, int) else f"the schema with the fingerprint {key[0].hex()}"


@cache
def _opened(settings: RegistrySettings, root: Path) -> Registry:
    return Registry(Client(settings), SchemaCache(settings.url, root))


def open_registry() -> Registry | None:
    """Return this process's registry: the one that the environment names, None where it names none.

    Raises ConfigError.
    """
    settings = RegistrySettings.from_environment()
    return None if settings is None else _opened(settings, environment.cache_dir())
