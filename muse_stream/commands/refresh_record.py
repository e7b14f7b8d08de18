"""What is known of the refresh of one tenant's map of a predictor: a proposal, and what became of it.

    durable:refresh~TENANT~HASH   one record for each tenant and predictor, replaced in one step

States: `proposed`, a map that waits for a person; `waiting`, no map can be fitted now, with the reasons; `publishing`,
until it is current; `applied`; `rejected`, by a person; `withdrawn`, what it rests on is no longer so. The former ones
are kept in short. Whoever reads a record does not trust it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from hashlib import sha256
from types import NoneType, UnionType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from muse_stream.calibration import FittedMap
from muse_stream.control import Store
from muse_stream.errors import StoreError

FORMAT: Final = 1
PREFIX: Final = "refresh~"
MOST_PAST: Final = 10
"""Former proposals that are remembered."""

State = Literal["proposed", "waiting", "publishing", "applied", "rejected", "withdrawn"]
OPEN: Final = ("proposed", "waiting", "publishing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """One promised threshold. Rates are shares of events."""

    threshold: float
    promised: float
    rate: float
    """Of the window's events under the present map."""
    rate_low: float
    rate_high: float
    """95 % interval."""
    expected: float
    """Of the window's events under the proposed map."""
    low: float
    high: float
    """The true rate under the proposed map lies within these, with 95 % confidence."""
    enough: bool
    """Whether that is narrow enough to rely on."""
    tied: bool
    """Whether ties keep it from what is promised."""
    score: float
    """What gives this score under the proposed map has this one under the map that the step is counted from."""
    move: float
    """How far the alert rate moves, as a share of the promise, on the events that that map was fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why there is no proposal, or why it is not applied without a person."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A map, and what it was fitted on."""

    map: dict[str, Any]
    """As `FittedMap.to_json` gives it."""
    begins: str
    ends: str
    hours: float
    events: int
    entity_share: float
    """Of the events, by the largest entity."""
    thresholds: tuple[Threshold, ...]
    largest_move: float

    @property
    def id(self) -> str:
        """What the map is called."""
        return digest(self.map)[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What became of a proposal."""

    state: State
    id: str = ""
    """Of the map."""
    at: str
    by: str
    message: str = ""
    generation: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """The map that was applied last and has not been taken back."""

    map: str
    """Its digest."""
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshRecord:
    """The record."""

    format: int = FORMAT
    version: int = 0
    """One more with each change."""
    tenant: str
    predictor: str
    state: State = "waiting"
    at: str = ""
    """When, ISO 8601."""
    by: str = ""
    """Who proposes."""
    policy: str = "propose"
    generation: int = 0
    """The one that it was made on."""
    content: str = ""
    """Hash of the predictor up to its map."""
    reference: str = ""
    """Hash of the reference."""
    present: str = ""
    """Digest of the map that serves."""
    step: float = 0.0
    fitted: Fitted | None = None
    reasons: tuple[Reason, ...] = ()
    drift: dict[str, Any] = field(default_factory=dict)
    """What the drift was established on, as `drift --json` says it."""
    decision: Decision | None = None
    not_before: str = ""
    """First day that a map may be fitted to: the one after a person said no."""
    person: bool = False
    """Whether a person took a refresh back: nothing is applied without one until one is applied by a person."""
    sequence: int = 0
    """While it is published: of the last move of `current` before."""
    applied: Applied | None = None
    past: tuple[Decision, ...] = ()

    @property
    def name(self) -> str:
        """The name in a store."""
        return record_name(self.tenant, self.predictor)

    @property
    def open(self) -> bool:
        """Whether it is not decided."""
        return self.state in OPEN

    @property
    def id(self) -> str:
        """Of the proposed map; empty where there is none."""
        return self.fitted.id if self.fitted else ""

    def but(self, **changes: Any) -> "RefreshRecord":
        """Return it with other values."""
        return replace(self, **changes)

    def decided(
        self, state: State, at: str, by: str, message: str = "", generation: int | None = None
    ) -> "RefreshRecord":
        """Return it with what became of it."""
        one = Decision(state=state, id=self.id, at=at, by=by, message=message, generation=generation)
        return self.but(state=state, decision=one, past=(*self.past, one)[-MOST_PAST:], sequence=0)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, for machines."""
        return {"id": self.id, **asdict(self)}

    @classmethod
    def read(cls, data: bytes, name: str) -> "RefreshRecord":
        """Return what `keep` stored; raises StoreError for anything else."""
        try:
            content = json.loads(data)
            if content["format"] > FORMAT:
                raise StoreError(f"{name}: a proposal of a newer muse-stream")
            found: RefreshRecord = _typed(cls, content)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise StoreError(f"{name}: not what this store writes; remove it, and it is proposed anew") from None
        if found.name != name:
            raise StoreError(f"{name}: names tenant {found.tenant!r} and predictor {found.predictor!r}")
        return found


class Overtaken(StoreError):
    """Somebody else has changed a proposal meanwhile; nothing was changed."""

    def __init__(self, one: RefreshRecord) -> None:
        super().__init__(
            f"tenant {one.tenant}, {one.predictor}: the proposal was changed by somebody else meanwhile; look again "
            "with `muse-stream refresh list`"
        )


def record_name(tenant: str, predictor: str) -> str:
    """Return the name of a record; that of a predictor may be too long for a file."""
    return f"{PREFIX}{tenant}~{sha256(predictor.encode()).hexdigest()[:16]}"


def digest(fitted: Mapping[str, Any]) -> str:
    """Return the hash of a fitted map's stored form."""
    return sha256(json.dumps(fitted, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_of(fitted: FittedMap) -> str:
    """Return the same of a fitted map."""
    return digest(fitted.to_json())


def find(store: Store, tenant: str, predictor: str) -> RefreshRecord | None:
    """Return the record of a tenant and predictor; None where there is none. Raises StoreError."""
    name = record_name(tenant, predictor)
    data = store.durable(name)
    return None if data is None else RefreshRecord.read(data, name)


def records(store: Store) -> Iterator[RefreshRecord]:
    """Yield all records, by tenant; raises StoreError for one that cannot be read."""
    for name in store.durables(PREFIX):
        data = store.durable(name)
        if data is not None:
            yield RefreshRecord.read(data, name)


def keep(store: Store, before: RefreshRecord | None, after: RefreshRecord) -> RefreshRecord:
    """Put `after` in place of `before` (None: there is none) and return it; raises Overtaken, StoreError."""
    after = after.but(version=after.version + 1)
    data = store.durable(after.name)
    known = None if data is None else RefreshRecord.read(data, after.name)
    if (known.version if known else None) != (before.version if before else None):
        raise Overtaken(after)
    if not store.set_durable(after.name, json.dumps(asdict(after)).encode(), data):
        raise Overtaken(after)
    return after


def _typed(kind: Any, value: Any) -> Any:
    """Return a value as what it is declared to be; raises TypeError, KeyError and ValueError for anything else."""
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        unknown = set(value) - {one.name for one in fields(kind)}
        if unknown:
            raise KeyError(*unknown)
        return kind(**{name: _typed(hints[name], one) for name, one in value.items()})
    origin, of = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None and NoneType in of else _typed(of[0], value)
    if origin is tuple and isinstance(value, list):
        return tuple(_typed(of[0], one) for one in value)
    if origin is Literal and value in of:
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, origin or kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(kind)
    return value


def text_of(moment: datetime) -> str:
    """Return a moment as records say it."""
    return moment.isoformat(timespec="seconds")
