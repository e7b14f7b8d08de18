"""What workers tell of themselves, in the store that they serve from: who they are, what they serve, what waits.

A worker's heartbeat is one small record under its own name, written over every `BEAT_S` seconds by a thread of its own.
A worker that drains takes it away; of one that died it stays, grows older (`SILENT_S`), and ends by itself (`GONE_S`).

Whoever reads a heartbeat does not trust it: a record that is torn, too large or of a newer format is a StoreError, and
its texts hold nothing that a terminal would obey.
"""

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

from msgspec import Struct, field
from msgspec.structs import fields, replace

from muse_stream.errors import StoreError

FORMAT = 1
BEAT_S = 2.0
SILENT_S = 10.0
"""A worker that has told nothing for longer is silent: it died, hangs, or cannot reach the store."""
GONE_S = 300.0
"""After so long nobody is told of it any more."""
LARGEST = 64 << 10
"""Most bytes of a heartbeat."""
LONGEST_TEXT = 300
LONGEST_NAME = 200
END_S = 3.0
"""How long the end of a process waits for its heartbeat to be taken away: a busy machine may take its time."""
END_AWAY_S = 0.2
"""The same where the store did not take the last heartbeat: the end of a process waits for no store."""


class NotAllowed(StoreError):
    """Heartbeats may not be written there; nothing else is wrong with the store."""


class Beat(Struct, frozen=True):
    """A heartbeat as the store keeps it."""

    name: str
    data: bytes
    age_s: float
    """How long ago it was written, by the store's clock where it has one."""


class TenantBeat(Struct, frozen=True):
    """What a worker tells of one tenant, as far as it has its partitions."""

    lag: int | None = 0
    """Events that wait; None: nobody knows."""
    age_s: float | None = 0.0
    """Age of the oldest of them; None: nobody knows."""
    paused: str = ""
    """Why its events are not read; empty while they are."""
    asked: bool = False
    """Whether it is paused in the configuration: an operator's decision."""
    removed: int = 0
    """Events that retention has removed before they were answered."""
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    """Reason -> events refused since the process started."""

    @property
    def at_rest(self) -> bool:
        """Whether there is nothing to tell."""
        return self == AT_REST


AT_REST = TenantBeat()


class Heartbeat(Struct, frozen=True):
    """What one worker tells of itself."""

    host: str
    slot: int
    role: str
    lane: str
    pid: int
    version: str
    """Of muse-stream."""
    started: str
    """When the process began to serve its slot, ISO 8601, by its own clock."""
    generation: int | None = None
    """What it serves; None before it serves."""
    refused: int | None = None
    """The current generation, where it cannot be compiled."""
    sequence: int = 0
    """Of the last move of `current` that it has followed."""
    problem: str = ""
    """Why what is current is not served: the refusal, or why the store cannot be read."""
    unready: str = ""
    """Why it does not do its work; as on the page `/ready`."""
    rate: float = 0.0
    """Events a second whose answers were committed lately."""
    lag: int | None = 0
    age_s: float | None = 0.0
    memory_bytes: int = 0
    """Resident memory of the process."""
    memory_restarts: int = 0
    """How often this slot was replaced because of its memory, since the run started."""
    skipped: int = 0
    """Heartbeats that the store did not take."""
    error: str = ""
    """The last error of its log."""
    error_at: str = ""
    tenants: Mapping[str, TenantBeat] = field(default_factory=dict)
    backends: str = ""
    """What runs its models, and why not native code."""
    slow: str = ""
    """Models that native code could run and this installation cannot."""
    left_out: int = 0
    """Tenants for which there was no room."""

    @property
    def worker(self) -> str:
        """Its place in the group: host name and slot."""
        return f"{self.host}-{self.slot}"

    @property
    def name(self) -> str:
        """What its record is called: a part of a key, and the name of a file."""
        return quote(f"{self.role}.{self.lane}.{self.worker}", safe="")[:LONGEST_NAME]

    def to_json(self) -> bytes:
        """Return the record as it is kept: at most `LARGEST` bytes; tenants at rest, then the first ones, give way."""
        data = _json(self)
        if len(data) <= LARGEST:
            return data
        busy = {tenant: one for tenant, one in self.tenants.items() if not one.at_rest}
        shown = replace(self, tenants=busy, left_out=len(self.tenants) - len(busy))
        while len(data := _json(shown)) > LARGEST and shown.tenants:
            kept = dict(list(shown.tenants.items())[: len(shown.tenants) * 3 // 4])
            shown = replace(shown, tenants=kept, left_out=len(self.tenants) - len(kept))
        return data

    @classmethod
    def read(cls, data: bytes, where: str) -> "Heartbeat":
        """Return what a worker told; raises StoreError that names `where`."""
        wrong = f"{where}: not a heartbeat of a worker"
        if len(data) > LARGEST:
            raise StoreError(wrong)
        try:
            content = json.loads(data)
            if content["format"] > FORMAT:
                raise StoreError(f"{where}: a heartbeat of a newer muse-stream")
            tenants = {_text(name): _part(TenantBeat, one) for name, one in content.pop("tenants").items()}
            found: Heartbeat = _part(cls, {**content, "tenants": tenants})
            return found
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise StoreError(wrong) from None


def _json(beat: Heartbeat) -> bytes:
    # field by field: `asdict` copies each value deeply, every two seconds, of every tenant
    content = {name: getattr(beat, name) for name in Heartbeat.__struct_fields__}
    content["tenants"] = {name: _told(one) for name, one in beat.tenants.items()}
    return json.dumps({"format": FORMAT, **content}).encode()


def _told(one: TenantBeat) -> dict[str, Any]:
    """Return what differs from a tenant at rest: most are."""
    if one == AT_REST:
        return {}
    values = {name: getattr(one, name) for name in TenantBeat.__struct_fields__}
    return {name: value for name, value in values.items() if value != getattr(AT_REST, name)}


def _part(kind: Any, content: Mapping[str, Any]) -> Any:
    """Build a record of its known fields, each of the type that it is declared with."""
    found = {}
    for name, value in content.items():
        if name in (declared := _declared(kind)):
            found[name] = _typed(declared[name], value)
    return kind(**found)


@cache
def _declared(kind: type[Struct]) -> Mapping[str, Any]:
    return {one.name: one.type for one in fields(kind)}


def _typed(declared: Any, value: Any) -> Any:
    if declared is str:
        return _text(value)
    if declared is bool and isinstance(value, bool):
        return value
    if isinstance(value, bool):
        raise TypeError
    if declared is int or (declared is float and isinstance(value, int | float)):
        return _number(value, int if declared is int else float)
    if declared == int | None:
        return None if value is None else _number(value, int)
    if declared == float | None:
        return None if value is None else _number(value, float)
    if not isinstance(value, Mapping):
        raise TypeError
    return {_text(key): one if isinstance(one, TenantBeat) else _number(one, int) for key, one in value.items()}


def _number(value: Any, kind: type) -> Any:
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float) or abs(value) > 1 << 62:
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return short(value)


def short(text: str) -> str:
    """Return a text on one line, bounded, without what a terminal would obey."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= LONGEST_TEXT else f"{line[: LONGEST_TEXT - 3]}..."


class Keeper(Protocol):
    """Where heartbeats are kept: a store."""

    def beat(self, name: str, data: bytes) -> None:
        """Keep a heartbeat."""

    def forget(self, name: str) -> None:
        """Take a heartbeat away."""


class Pulse:
    """A thread that tells what `look` returns every `every_s` seconds; a context manager.

    It never holds its owner up: a store that is away costs a heartbeat, which is counted (`skipped`). That heartbeats
    may not be written there is told once, by `refused`.
    """

    def __init__(
        self,
        keeper: Keeper,
        look: Callable[[], Heartbeat],
        refused: Callable[[str], object],
        count_skipped: Callable[[], object] = lambda: None,
        *,
        every_s: float = BEAT_S,
    ) -> None:
        self._keeper, self._look, self._refused, self._every_s = keeper, look, refused, every_s
        self._count_skipped = count_skipped
        self.skipped = 0
        self._said = False
        self._taken = False
        """Whether the store took the last heartbeat."""
        self._name = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.set()
        self._thread.join(END_S if self._taken else END_AWAY_S)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._beat()
            self._ending.wait(self._every_s)
        if self._name:
            with suppress(Exception):
                self._keeper.forget(self._name)

    def _beat(self) -> None:
        try:
            beat = replace(self._look(), skipped=self.skipped)
            self._keeper.beat(beat.name, beat.to_json())
            self._name, self._taken = beat.name, True
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a heartbeat is no reason to stop scoring
            self._taken = False
            self.skipped += 1
            self._count_skipped()
            if isinstance(error, NotAllowed) and not self._said:
                self._said = True
                self._refused(str(error))
