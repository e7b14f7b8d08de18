"""The evidence for a promotion: what the candidate said, as a shadow, to the events that the live predictor answered.

Reads the audit topics of the tenants that a promotion concerns and gives, per tenant and promised threshold, both alert
rates, the expected change with its confidence interval, and how far the two agree. `breaches` says what speaks against
the promotion: a rate that would leave its tolerance, a candidate that fails, or too little evidence to tell.

Only records count that were made under a configuration in which both predictors answer these tenants as they do now.
Events with the same Kafka key belong to one entity (a card, a customer) and count as one group.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from muse_stream.avro import Decoded, Decoder, Fields, SchemaDirectory, field_of
from muse_stream.calibration import expected
from muse_stream.config import Document, KafkaSettings, Replaced
from muse_stream.errors import Problem
from muse_stream.kafka import Block, Bounds, Consumer, Reading, all_offsets_at, bounds, reader
from muse_stream.runtime.answer_reader import output_schemas
from muse_stream.scoring import Categorical, promised_rates

COLUMNS = ("tenant", "predictor", "score", "live_predictor", "live_score", "generation", "live_generation", "scored_at")
SETTLE_S = 5.0
LOOK_S = 15.0
OVERHEAD = 1.2
"""Offsets per record: markers of transactions take some."""
FAILING = 0.001
"""Share of events that a candidate may fail to score: each would be a dead letter."""

Floats = NDArray[np.float64]
Alike = Callable[[set[int]], set[int]]
"""Which of these generations answer as the current one does, as far as this promotion is concerned?"""


@dataclass(frozen=True, slots=True)
class Window:
    """Which audit records are looked at."""

    events: int = 200_000
    """The latest so many of each tenant."""
    since_ms: int | None = None
    """Written from then on; None: whenever."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both predictors at one threshold of one tenant."""

    threshold: float
    promised: float
    live: float
    candidate: float
    change: float
    margin: float
    """The change is known to within so much, with 95 % confidence."""
    agreement: float | None
    """Share of the live predictor's alerts that the candidate raises as well."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about one tenant."""

    tenant: str
    events: int
    entities: int
    failed: int
    """Events that the candidate could not score."""
    other_generations: int
    """Records that do not count: made when one of the two predictors answered otherwise."""
    comparisons: tuple[Comparison, ...] = ()
    latest_ms: int = 0
    """Kafka's timestamp of the newest of all these records; 0 where there is none."""


@dataclass(slots=True)
class Records:
    """What both predictors said of the same events: what is kept of one tenant's audit records, block by block."""

    live: list[Floats] = field(default_factory=list)
    candidate: list[Floats] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    at: list[NDArray[np.int64]] = field(default_factory=list)
    generation: list[NDArray[np.int64]] = field(default_factory=list)
    latest_ms: int = 0
    """Kafka's timestamp of the newest."""


def gather(
    document: Document,
    settings: KafkaSettings,
    candidate: str,
    replaced: Sequence[Replaced],
    window: Window,
    alike: Alike,
) -> tuple[Evidence, ...]:
    """Read the audit topics of the tenants whose routes a promotion replaces; one `Evidence` for each.

    Raises the errors of Kafka.
    """
    tenants = [name for name in document.tenants if any(name in one.when.get("tenant", (name,)) for one in replaced)]
    topics: dict[str, list[str]] = {}
    for tenant in tenants:
        topics.setdefault(document.tenant_topics(tenant).audit, []).append(tenant)
    shadows = max(len(route.shadow) for route in document.routes) or 1
    client = reader(settings)
    kept = {tenant: Records() for tenant in tenants}
    gathering = Pairs(candidate, replaced, kept, output_schemas())
    try:
        for topic, own in topics.items():
            held = bounds(client, topic)
            reach = math.ceil(window.events * shadows * OVERHEAD) * _sharing(document, topic)
            ends = _from(client, topic, held, window, reach)
            for block in Reading(client, topic, ends, SETTLE_S) if held else ():
                gathering.add(block, own)
    finally:
        client.close()
    made = {number for one in kept.values() for part in one.generation for number in np.unique(part).tolist()}
    same = alike(made)
    promised = promises(document, candidate, replaced)
    return tuple(_evidence(promised, tenant, kept[tenant], window.events, same) for tenant in tenants)


def _sharing(document: Document, topic: str) -> int:
    return sum(document.tenant_topics(name).audit == topic for name in document.tenants)


def _from(client: Consumer, topic: str, held: Mapping[int, Bounds], window: Window, reach: int) -> dict[int, Bounds]:
    since: dict[int, int] = {}
    if window.since_ms is not None and held:
        found = all_offsets_at(client, [(topic, partition) for partition in held], window.since_ms, LOOK_S)
        since = {partition: held[partition].high if offset < 0 else offset for (_, partition), offset in found.items()}
    return {
        partition: Bounds(min(max(bound.low, bound.high - reach, since.get(partition, 0)), bound.high), bound.high)
        for partition, bound in held.items()
    }


class Pairs:
    """Takes blocks of an audit topic and keeps what belongs to the comparison, in the `Records` of each tenant."""

    def __init__(
        self,
        candidate: str,
        replaced: Sequence[Replaced],
        kept: Mapping[str, Records],
        schemas: SchemaDirectory,
    ) -> None:
        self._candidate, self._replaced, self._kept, self._schemas = candidate, replaced, kept, schemas
        self._decoder = Decoder(schemas, schemas.by_file("audit.avsc"), Fields("event_id", columns=COLUMNS))
        self._by_intent = any(set(one.when) - {"tenant"} for one in replaced)

    def add(self, block: Block, tenants: Collection[str]) -> None:
        """Keep what a block has of these tenants."""
        values = block.values()
        decoded = self._decoder.decode(values)
        tenant, predictor, live = (_texts(decoded, name) for name in ("tenant", "predictor", "live_predictor"))
        score, live_score = (_numbers(decoded, name) for name in ("score", "live_score"))
        made, of_live = (_numbers(decoded, name) for name in ("generation", "live_generation"))
        of_live = np.where(np.isnan(of_live), made, of_live)
        at = _numbers(decoded, "scored_at").astype(np.int64)
        old = {name for one in self._replaced for name in one.live} - {self._candidate}
        forth = (predictor == self._candidate) & np.isin(live, list(old))
        back = (live == self._candidate) & np.isin(predictor, list(old))  # it has a share of the live events already
        for name in tenants:
            rows = np.flatnonzero((tenant == name) & (forth | back))
            rows = self._asked(name, rows, decoded.rows, live, predictor, values)
            kept = self._kept[name]
            kept.generation.append(of_live[rows].astype(np.int64))
            kept.candidate.append(np.where(forth, score, live_score)[rows])
            kept.live.append(np.where(forth, live_score, score)[rows])
            kept.at.append(at[rows])
            own = [block.messages[row] for row in decoded.rows[rows].tolist()]
            kept.keys += [message.key() for message in own]
            kept.latest_ms = max([kept.latest_ms, *(message.timestamp()[1] for message in own)])

    def _asked(
        self,
        tenant: str,
        rows: NDArray[np.intp],
        index: NDArray[np.int64],
        live: NDArray[np.object_],
        predictor: NDArray[np.object_],
        values: Sequence[bytes | None],
    ) -> NDArray[np.intp]:
        """Return the rows whose intent the promotion concerns."""
        if not self._by_intent or not len(rows):
            return rows
        rules = [one for one in self._replaced if tenant in one.when.get("tenant", (tenant,))]
        intents = field_of(self._schemas, [value for row in index[rows].tolist() if (value := values[row])], "intent")

        def concerned(row: int, intent: object) -> bool:
            who = {str(live[row]), str(predictor[row])}
            return isinstance(intent, dict) and any(
                who & set(rule.live)
                and all(name == "tenant" or intent.get(name) in values for name, values in rule.when.items())
                for rule in rules
            )

        return rows[[concerned(row, intent) for row, intent in zip(rows.tolist(), intents, strict=True)]]


def _texts(decoded: Decoded, name: str) -> NDArray[np.object_]:
    column = decoded.columns[name]
    assert isinstance(column, Categorical)  # noqa: S101  # a string in audit.avsc
    return np.array([*column.values, None], dtype=object)[column.codes]


def _numbers(decoded: Decoded, name: str) -> Floats:
    column = decoded.columns[name]
    assert isinstance(column, np.ndarray)  # noqa: S101  # a number in audit.avsc
    return np.asarray(column, dtype=np.float64)


def _evidence(
    promised: Mapping[float, float], tenant: str, records: Records, most: int, generations: Collection[int]
) -> Evidence:
    if not records.at:
        return Evidence(tenant, 0, 0, 0, 0)
    counts = np.isin(np.concatenate(records.generation), list(generations))
    at = np.concatenate(records.at)
    latest = np.argsort(at, kind="stable")
    latest = latest[counts[latest]][-most:]
    live, scores = np.concatenate(records.live)[latest], np.concatenate(records.candidate)[latest]
    codes: dict[bytes, int] = {}
    keys = ((row, records.keys[row]) for row in latest.tolist())
    groups = np.array(
        [-1 - row if key is None else codes.setdefault(key, len(codes)) for row, key in keys], dtype=np.int64
    )
    sound = ~(np.isnan(scores) | np.isnan(live))
    live, scores, groups = live[sound], scores[sound], groups[sound]
    comparisons: tuple[Comparison, ...] = ()
    if len(live):
        comparisons = tuple(
            Comparison(threshold, rate, found.live, found.candidate, found.change, found.margin, found.agreement)
            for threshold, rate in promised.items()
            for found in [expected(live, scores, threshold, groups)]
        )
    failed, other = int((~sound).sum()), int((~counts).sum())
    return Evidence(tenant, len(live), len(np.unique(groups)), failed, other, comparisons, records.latest_ms)


def promises(document: Document, candidate: str, replaced: Sequence[Replaced]) -> Mapping[float, float]:
    """Return the promise that the candidate is measured by; where it has none, that of the predictor it replaces."""
    for predictor in (candidate, *(name for one in replaced for name in one.live)):
        known = document.predictors.get(predictor)
        name = known.graph().promise() if known else None
        if name is not None:
            return promised_rates(document.references[name])
    return {}


def breaches(evidence: Sequence[Evidence], candidate: str, tolerance: float) -> Iterator[Problem]:
    """Yield what speaks against a promotion; `tolerance` is the share of a promised rate by which it may move."""
    for one in evidence:
        path = f"tenants.{one.tenant}"
        if not one.events:
            ignored = f"; {one.other_generations:,} of other generations do not count" if one.other_generations else ""
            hint = f"let `{candidate}` shadow this tenant's events for a while"
            yield Problem(path, f"tenant {one.tenant}: no audit records of {candidate}{ignored}", hint)
            continue
        if one.failed > FAILING * (one.events + one.failed):
            message = f"tenant {one.tenant}: {candidate} failed on {one.failed:,} of {one.events + one.failed:,} events"
            yield Problem(path, message, "each would be a dead letter: look at `error` of its audit records")
        for at in one.comparisons:
            yield from _breach(path, one, at, tolerance)


def _breach(path: str, one: Evidence, at: Comparison, tolerance: float) -> Iterator[Problem]:
    allowed = tolerance * at.promised
    rates = f"{_percent(at.live)} -> {_percent(at.candidate)}, promised {_percent(at.promised)}"
    place = f"tenant {one.tenant}, threshold {at.threshold:g}"
    # towards the promise is no breach: the live predictor may have drifted away from it
    if abs(at.change) > allowed and abs(at.candidate - at.promised) > allowed:
        message = f"{place}: the alert rate would move by {_points(at.change)} points ({rates})"
        yield Problem(path, message, f"at most {_points(allowed, sign=False)} are tolerated: refit its map, or wait")
    elif at.margin > allowed:
        message = f"{place}: too little evidence: the change is known to {_points(at.margin, sign=False)} points only"
        wanted = math.ceil(one.events * (at.margin / allowed) ** 2)
        hint = f"{one.events:,} events of {one.entities:,} entities are there; about {wanted:,} events would tell"
        yield Problem(path, message, hint)


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _points(rate: float, *, sign: bool = True) -> str:
    return f"{100 * rate:+.2g}" if sign else f"{100 * rate:.2g}"
