"""Status: what is current, who serves it, what waits, and what is wrong; from the generation store alone.

`look` reads the store once: what is current, and the heartbeats of the workers (control/heartbeats.py). It needs no
Kafka and no metrics system. Where the store is away it says what this machine's copy of it tells, and that it is that.

What a monitor should wake somebody for is a `Finding`; what an operator has decided (a tenant that is paused in the
configuration) and what has passed (the last error of a log) is shown, and is none.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from muse_stream.commands.verdicts import Watched, in_trouble
from muse_stream.control import SILENT_S, Head, Heartbeat, Manifest, Store, TenantBeat, short, signer_name, trusted_keys
from muse_stream.errors import StoreError
from muse_stream.runtime.drift_verdicts import last_verdicts

if TYPE_CHECKING:
    from muse_stream.control import Beat

CONVERGED_S = 30.0
"""So long workers may take to compile what became current, before it is a finding that they serve another one."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    """For machines: store, generation, signature, worker, silent, refused, lane, tenant, promotion, drift, refresh."""
    text: str


@dataclass(frozen=True, slots=True)
class Current:
    """The current generation."""

    number: int
    author: str
    """Who made it current."""
    moved: datetime | None
    message: str
    published_by: str = ""
    published: datetime | None = None
    why: str = ""
    """The message that it was published with."""
    from_copy: bool = False
    """Whether this is what this machine saw last, since the store does not answer."""
    signed_by: str = ""
    """Who signed the generation: the name of a trusted key, or a key; empty where nobody did."""
    moved_signed_by: str = ""
    """Who signed that it is current."""


@dataclass(frozen=True, slots=True)
class WorkerLine:
    """One worker."""

    worker: str
    role: str
    lane: str
    state: str
    """serving, starting, unready or silent."""
    generation: int | None
    rate: float
    lag: int | None
    age_s: float | None
    memory_bytes: int
    memory_restarts: int
    seen_s: float
    """How long ago it was heard of."""
    started: str
    pid: int
    version: str
    problem: str
    error: str
    error_at: str
    backends: str
    """What runs its models, and why not native code."""
    slow: str
    """Models that native code could run and its installation cannot."""


@dataclass(frozen=True, slots=True)
class LaneLine:
    """The workers of one role and lane."""

    role: str
    lane: str
    workers: int
    converged: int
    """Workers that serve the current generation, and have told so lately."""
    rate: float
    lag: int | None
    age_s: float | None


@dataclass(frozen=True, slots=True)
class TenantLine:
    """One tenant in one role, over all workers of its lane."""

    tenant: str
    lane: str
    role: str
    lag: int | None
    age_s: float | None
    paused: str
    asked: bool
    removed: int
    dead_letters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Status:
    """All that `status` shows."""

    store: str
    current: Current | None
    workers: tuple[WorkerLine, ...] = ()
    lanes: tuple[LaneLine, ...] = ()
    tenants: tuple[TenantLine, ...] = ()
    watched: Watched | None = None
    """What `watch` found last; None where nobody watches."""
    findings: tuple[Finding, ...] = ()

    @property
    def converged(self) -> int:
        """Workers that serve the current generation."""
        return sum(lane.converged for lane in self.lanes)

    @property
    def convergence(self) -> str:
        """The same in a sentence."""
        if not self.workers or self.current is None:
            return "no worker is known"
        text = f"{self.converged} of {len(self.workers)} workers on {self.current.number}"
        others = Counter(one.generation for one in self.workers if one.generation != self.current.number)
        told = [f"{count} on {'none yet' if number is None else number}" for number, count in _by_number(others)]
        return "; ".join([text, *told])


def _by_number(others: Mapping[int | None, int]) -> Iterable[tuple[int | None, int]]:
    return sorted(others.items(), key=lambda one: -1 if one[0] is None else one[0])


def look(store: Store, *, max_age_s: float | None = None) -> Status:
    """Return how things stand now. `max_age_s`: an event that waits for longer is a finding.

    Raises nothing for a store that is away or damaged: that is what it tells then.
    """
    findings: list[Finding] = []
    current, manifest = _current(store, findings)
    try:
        beats = store.beats()
    except StoreError as error:
        if not findings:
            findings.append(Finding("store", f"heartbeats cannot be read: {error}"))
        return Status(str(store), current, findings=tuple(findings))
    heard = list(_read(beats, findings))
    number = current.number if current else None
    workers = tuple(_line(beat, age_s) for beat, age_s in heard)
    lanes = tuple(_lanes(workers, number))
    tenants = tuple(_tenants(heard))
    findings += _of_workers(heard, workers, current)
    findings += _of_lanes(lanes, manifest)
    findings += _of_tenants(tenants, max_age_s)
    findings += _of_drift(store, manifest)
    findings += _of_refresh(store)
    watched = _watched(store, findings)
    return Status(str(store), current, workers, lanes, tenants, watched, tuple(findings))


def _watched(store: Store, findings: list[Finding]) -> Watched | None:
    try:
        found = Watched.read(store)
    except StoreError as error:
        findings.append(Finding("promotion", str(error)))
        return None
    if found is not None:
        findings += [Finding("promotion", str(one)) for one in in_trouble(found.verdicts)]
    return found


def _of_drift(store: Store, manifest: Manifest | None) -> Iterator[Finding]:
    """Yield what the role `calibrate` has found last."""
    for lane in (manifest.lanes or ()) if manifest is not None else ():
        with suppress(StoreError, KeyError, TypeError):  # who may not read it is told nothing of it
            for one in (last_verdicts(store, lane) or {"verdicts": ()})["verdicts"]:
                who = f"tenant {short(str(one['tenant']))}, {short(str(one['predictor']))}"
                hint = "`muse-stream drift` shows by how much"
                yield Finding("drift", f"{who}: the scores have left what was promised; {hint}")


def _of_refresh(store: Store) -> Iterator[Finding]:
    """Yield the refreshes that wait: for a person, or for better days."""
    try:
        if not store.durables("refresh~"):
            return
        from muse_stream.commands.refresh_record import records  # noqa: PLC0415 - it loads more than the rest of this

        for one in records(store):
            why = "; ".join(short(reason.text) for reason in one.reasons)
            who = f"tenant {one.tenant}, {one.predictor}"
            if one.state == "waiting":
                yield Finding("refresh", f"{who}: no map is fitted anew now: {why}")
            elif one.open:
                hint = f"`muse-stream refresh apply` or `reject` decides{f': {why}' if why else ''}"
                yield Finding("refresh", f"{who}: a refreshed map is proposed; {hint}")
    except StoreError as error:
        yield Finding("refresh", f"proposals cannot be read: {error}")


def _current(store: Store, findings: list[Finding]) -> tuple[Current | None, Manifest | None]:
    try:
        head = store.head()
    except StoreError as error:
        head = store.kept()
        known = f"generation {head.number} was current when this machine saw it last" if head else ""
        nothing = "this machine has no copy that would tell what is current"
        findings.append(Finding("store", f"the store does not answer: {error}; {known or nothing}"))
        return _of_head(head, None, from_copy=True) if head else None, None
    if head is None:
        kept = store.kept()
        lost = f", and generation {kept.number} was current when this machine saw it last" if kept else ""
        findings.append(Finding("store", f"the store holds no generation{lost}; `muse-stream publish` puts one there"))
        return None, None
    try:
        manifest = store.manifest(head.number)
    except StoreError as error:
        findings.append(Finding("generation", f"generation {head.number} cannot be read: {error}"))
        return _of_head(head, None), None
    findings += _of_signatures(store, head, manifest)
    return _of_head(head, manifest), manifest


def _of_signatures(store: Store, head: Head, manifest: Manifest) -> Iterator[Finding]:
    """Yield what workers with the same trusted keys refuse."""
    try:
        keys = trusted_keys()
        if keys is not None:
            keys.check(head.to_json(), "current", f"{store}: that generation {head.number} is current")
            keys.check(manifest.to_json(), "generation", f"{store}: generation {head.number}")
    except StoreError as error:
        yield Finding("signature", str(error))


def _of_head(head: Head, manifest: Manifest | None, *, from_copy: bool = False) -> Current:
    moved_by = signer_name(head.signature)
    found = Current(
        *(head.number, short(head.author), head.moved, short(head.message)),
        from_copy=from_copy,
        moved_signed_by=moved_by,
    )
    if manifest is None:
        return found
    published_by, why = short(manifest.author), short(manifest.message)
    signed_by = signer_name(manifest.signature)
    return replace(found, published_by=published_by, published=manifest.created, why=why, signed_by=signed_by)


def _read(beats: "Sequence[Beat]", findings: list[Finding]) -> Iterator[tuple[Heartbeat, float]]:
    for beat in beats:
        try:
            yield Heartbeat.read(beat.data, f"heartbeat {short(beat.name)}"), beat.age_s
        except StoreError as error:
            findings.append(Finding("worker", str(error)))


def _line(beat: Heartbeat, age_s: float) -> WorkerLine:
    return WorkerLine(
        beat.worker,
        beat.role,
        beat.lane,
        _state(beat, age_s),
        beat.generation,
        beat.rate,
        beat.lag,
        beat.age_s,
        beat.memory_bytes,
        beat.memory_restarts,
        round(age_s, 1),
        beat.started,
        beat.pid,
        beat.version,
        beat.problem,
        beat.error,
        beat.error_at,
        beat.backends,
        beat.slow,
    )


def _state(beat: Heartbeat, age_s: float) -> str:
    if age_s > SILENT_S:
        return "silent"
    if beat.generation is None:
        return "starting"
    return f"unready: {beat.unready}" if beat.unready else "serving"


def _lanes(workers: Sequence[WorkerLine], current: int | None) -> Iterator[LaneLine]:
    grouped = defaultdict[tuple[str, str], list[WorkerLine]](list)
    for one in workers:
        grouped[one.role, one.lane].append(one)
    for (role, lane), ours in sorted(grouped.items(), key=lambda one: (one[0][1], one[0][0])):
        heard = [one for one in ours if one.state != "silent"]
        yield LaneLine(
            *(role, lane, len(ours), sum(one.generation == current for one in heard)),
            round(sum(one.rate for one in heard), 1),
            _sum(one.lag for one in heard),
            _oldest(one.age_s for one in heard),
        )


def _tenants(heard: Sequence[tuple[Heartbeat, float]]) -> Iterator[TenantLine]:
    """Yield each tenant as its workers together tell; those that are silent tell what waited then."""
    grouped = defaultdict[tuple[str, str, str], list[TenantBeat]](list)
    fresh = {(beat.role, beat.lane) for beat, age_s in heard if age_s <= SILENT_S}
    for beat, age_s in heard:
        if age_s > SILENT_S and (beat.role, beat.lane) in fresh:
            continue  # others of its group have its partitions by now
        for tenant, one in beat.tenants.items():
            grouped[tenant, beat.lane, beat.role].append(one)
    for (tenant, lane, role), told in sorted(grouped.items()):
        # a worker without partitions of the topic does not know what waits there; one that has them does
        known = [one for one in told if one.lag is not None] or told
        letters = Counter[str]()
        for one in told:
            letters.update(one.dead_letters)
        yield TenantLine(
            *(tenant, lane, role, _sum(one.lag for one in known), _oldest(one.age_s for one in known)),
            next((one.paused for one in told if one.paused), ""),
            any(one.asked for one in told),
            sum(one.removed for one in told),
            dict(letters.most_common()),
        )


def _sum(values: Iterable[int | None]) -> int | None:
    found = list(values)
    return None if None in found else sum(value for value in found if value is not None)


def _oldest(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value]
    return max(known) if known else None if None in found else 0.0


def _of_workers(
    heard: Sequence[tuple[Heartbeat, float]], workers: Sequence[WorkerLine], current: Current | None
) -> Iterator[Finding]:
    if not workers:
        yield Finding(
            "worker", "no worker has told of itself within five minutes: none runs, or none reaches the store"
        )
        return
    for one in workers:
        if one.state == "silent":
            last = f"; its last error: {one.error}" if one.error else ""
            yield Finding("silent", f"{_named(one)} is silent for {one.seen_s:.0f} s{last}")
        elif one.state not in ("serving", "starting"):
            yield Finding("worker", f"{_named(one)} is {one.state}")
    troubles = defaultdict[tuple[int | None, str], list[WorkerLine]](list)
    for (beat, _), line in zip(heard, workers, strict=True):
        if line.problem and line.state != "silent":
            troubles[beat.refused, beat.problem].append(line)
    for (refused, why), ours in sorted(troubles.items(), key=lambda one: -len(one[1])):
        who = f"{len(ours)} of {len(workers)} workers" if len(ours) > 1 else _named(ours[0])
        what = "cannot follow the store" if refused is None else f"cannot serve generation {refused}"
        goes_on = ", ".join(sorted({str(one.generation) for one in ours}))
        yield Finding("refused" if refused else "store", f"{who} {what} and go on with {goes_on}: {why}")
    late = [one for one in workers if current and one.generation != current.number and one.state != "silent"]
    if late and not troubles and current and _since(current.moved) > CONVERGED_S:
        who = ", ".join(map(_named, late[:5])) + (" ..." if len(late) > 5 else "")
        yield Finding("generation", f"{who}: not on generation {current.number}, which has been current for a while")


def _named(one: WorkerLine) -> str:
    return f"worker {one.worker} ({one.role}, lane {one.lane})"


def _since(moment: datetime | None) -> float:
    return CONVERGED_S + 1 if moment is None else (datetime.now(UTC) - moment).total_seconds()


def _of_lanes(lanes: Sequence[LaneLine], manifest: Manifest | None) -> Iterator[Finding]:
    served = {one.lane for one in lanes if one.role == "live"}
    for lane, tenants in (manifest.lanes or {} if manifest else {}).items():
        if lane not in served and lanes:
            count = f"{len(tenants)} tenant{'' if len(tenants) == 1 else 's'}"
            yield Finding("lane", f"no live worker serves lane {lane} ({count}: {', '.join(list(tenants)[:5])})")


def _of_tenants(tenants: Sequence[TenantLine], max_age_s: float | None) -> Iterator[Finding]:
    for one in tenants:
        who = f"tenant {one.tenant} ({one.role})"
        if one.paused and not one.asked:
            yield Finding("tenant", f"{who} is paused: {one.paused}")
        elif one.lag is None and not one.asked:
            yield Finding("tenant", f"{who}: nobody can tell how many events wait")
        if one.removed:
            yield Finding("tenant", f"{who}: retention has removed {one.removed:,} events before they were answered")
        if max_age_s is not None and (one.age_s or 0.0) > max_age_s and not one.asked:
            yield Finding("tenant", f"{who}: its oldest event has waited for {one.age_s:.0f} s")


def facts(found: Status) -> dict[str, Any]:
    """Return all of it as plain data, for machines."""
    return {
        "ok": not found.findings,
        "converged": found.converged,
        "convergence": found.convergence,
        **asdict(found),
    }
