"""Plan a deployment: workers, partitions, cores, brokers, memory and failover for a load, from what was measured.

Every constant stands in MEASURED with the command that measures it; `--scenario` names one of `perf/`. They were taken
on two cores shared with a broker of replication 1, with 15 features and one model of 100 trees with 31 leaves. An
answer says of each figure whether it was measured, or follows from what was and how (docs/capacity.md).

How it is computed, of N events a second:

    worker us    client + decode + route + encode + models an event x `model us`; of a shadow worker, audit records in
                 place of the encoding
    capacity     one core / worker us; planned is `utilisation` of it: the rest carries what a lost machine leaves
    workers      N / planned, or with a wanted latency N / the greatest measured rate of one worker that keeps it; one
                 on each machine at least
    partitions   so many that each worker has two, and the busiest tenant's partition fits a worker
    memory       workers and spares x (worker + models + predictors), supervisors
    catching up  what waited while a machine was missed / what the workers of the others can do beside N
"""

import math
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from muse_stream.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Constant:
    """A figure that was measured, and how."""

    value: float
    unit: str
    what: str
    command: str


@dataclass(frozen=True, slots=True)
class Pace:
    """What one live worker does at a steady rate of events."""

    events_per_s: float
    p50_ms: float
    p99_ms: float
    cores: float


_LIVE, _STAGES, _SHADOW = (f"python -m perf run --scenario {name} --json" for name in ("live", "stages", "shadow"))
_LATENCY, _PUBLISH = (f"python -m perf run --scenario {name} --json" for name in ("latency", "publish"))
_OWN = "python -m perf run --scenario latency-60-own --scenario latency-60-shared --json"
_TAKEOVER = "python -m perf run --scenario {} --json"

MEASURED = {
    "client_us": Constant(2.6, "us", "an event in, an answer out, the commit: Kafka's client alone (the echo)", _LIVE),
    "decode_us": Constant(0.4, "us", "decode an event of 15 features", _STAGES),
    "model_us": Constant(1.9, "us", "one model of 100 trees with 31 leaves", _STAGES),
    "route_us": Constant(0.2, "us", "route, features, correction, quantile map", _STAGES),
    "encode_us": Constant(0.2, "us", "encode a score", _STAGES),
    "audit_us": Constant(1.9, "us", "encode and send an audit record", _SHADOW),
    "broker_sent_us": Constant(2.1, "us", "broker: take an event from its producer", _LIVE),
    "broker_drained_us": Constant(3.0, "us", "broker: give it to a worker, take the answer, commit", _LIVE),
    "event_bytes": Constant(150, "bytes", "an event of 15 features, with id and time", _LIVE),
    "score_bytes": Constant(84, "bytes", "a score record", _LIVE),
    "audit_bytes": Constant(139, "bytes", "an audit record of one expert", _SHADOW),
    "batches_per_s": Constant(100, "1/s", "batches, so transactions, of one worker under a steady load", _LATENCY),
    "own_output_ms": Constant(0.7, "ms", "p99 for each output partition of a transaction", _OWN),
    "worker_mb": Constant(200, "MB", "a worker that drains, without models and predictors", _LIVE),
    "spare_mb": Constant(120, "MB", "a spare, or a supervisor, without models and predictors", _PUBLISH),
    "model_mb": Constant(1.6, "MB", "a model of 100 trees with 31 leaves, in memory", _PUBLISH),
    "predictor_mb": Constant(0.05, "MB", "a predictor with a quantile map of its own", _PUBLISH),
    "kill_worker_s": Constant(0.4, "s", "worst silence: a worker was killed", _TAKEOVER.format("takeover")),
    "kill_run_s": Constant(
        1.61, "s", "worst silence: a run was killed and started again at once", _TAKEOVER.format("takeover-run")
    ),
    "lose_machine_s": Constant(
        9.38, "s", "worst silence: a machine is lost, another takes over", _TAKEOVER.format("takeover-host")
    ),
}
PACES = (Pace(100, 23, 40, 0.29), Pace(1_000, 16, 29, 0.37), Pace(5_000, 20, 65, 0.48))
"""By `python -m perf run --scenario latency --json`: one worker, one tenant, 4 partitions, produced to visible."""

REPLICATION_MEASURED, TOUCHED_MEASURED = 1, 4
MOST_BATCH = 10_000
"""`limits.max_batch`."""
GATHERED_S = 0.1
"""Events of so long are in one transaction at most, when it writes to many partitions and takes long."""
Basis = Literal["measured", "extrapolated", "chosen", "asked"]


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for."""

    events_per_s: float
    """At the peak."""
    tenants: int = 1
    predictors: int = 1
    """In the configuration."""
    models: int | None = None
    """Model files that they use; None: one each."""
    experts: int = 1
    """Models that score an event for its live predictor."""
    shadows: int = 0
    """Shadow predictors of an event."""
    shadow_models: int | None = None
    """Models that these run besides the live one's; None: one each."""
    model_us: float = MEASURED["model_us"].value
    event_bytes: float = MEASURED["event_bytes"].value
    shared_outputs: bool = False
    partitions: int | None = None
    """Of each event topic; None: as many as are needed."""
    latency_ms: float | None = None
    """p99 that is wanted."""
    largest_tenant: float | None = None
    """Its share of the events; None: all are alike."""
    replication: int = 3
    machines: int = 2
    utilisation: float = 0.5


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a plan."""

    what: str
    value: float
    unit: str
    basis: Basis
    how: str

    def shown(self) -> str:
        """Return value and unit with three digits that count, and no exponent."""
        value = self.value
        number = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{float(f'{value:.3g}'):g}"
        return f"{number} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a load needs."""

    load: Load
    figures: dict[str, Figure]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return it for machines."""
        names = ("value", "unit", "basis", "how")
        return {
            "plan": {key: {name: getattr(one, name) for name in names} for key, one in self.figures.items()},
            "warnings": list(self.warnings),
            "constants": {
                key: {"value": one.value, "unit": one.unit, "command": one.command} for key, one in MEASURED.items()
            },
        }


@dataclass(frozen=True, slots=True)
class _Group:
    """The workers of one role."""

    us: float
    """Of one event."""
    workers: int
    rate: float
    """Events a second of one worker."""

    @property
    def capacity(self) -> float:
        """Events a second that one worker can do."""
        return 1e6 / self.us

    @property
    def known(self) -> bool:
        """Whether one worker was seen to do what all of them have to."""
        return self.workers == 1 or self.workers * _equivalent(self) <= PACES[-1].events_per_s


def plan(load: Load) -> Plan:
    """Return what a load needs; raises ConfigError for what contradicts itself or cannot be had."""
    _check(load)
    live = _sized(load, live_us(load), load.latency_ms)
    shadow = _sized(load, shadow_us(load), None) if load.shadows else None
    groups = [live, *([shadow] if shadow else [])]
    partitions = _partitions(load, groups)
    warnings: list[str] = []
    figures = _workers(load, live, shadow)
    figures |= _topics(load, partitions, groups)
    figures |= _latency(load, live, partitions)
    figures |= _brokers(load, groups, partitions)
    figures |= _memory(load, groups)
    figures |= _failover(load, live)
    touched = _touched(load, live, partitions)
    if not load.shared_outputs and touched > 16:
        more = f"a transaction writes to {touched} output partitions, which adds {_own_ms(touched):.0f} ms to the p99"
        warnings.append(f"{more}: let a lane's tenants share output topics, or use lanes")
    if load.machines == 1:
        warnings.append("with one machine nobody takes over when it is lost")
    elif "catch_up_s" not in figures:
        warnings.append("when a machine is lost the others cannot carry the load: more machines, or less utilisation")
    return Plan(load, figures, tuple(warnings))


def live_us(load: Load) -> float:
    """Return the CPU time of a live worker for one event."""
    fixed = ("client_us", "decode_us", "route_us", "encode_us")
    return sum(MEASURED[name].value for name in fixed) + load.experts * load.model_us


def shadow_us(load: Load) -> float:
    """Return the CPU time of a shadow worker for one event."""
    fixed = sum(MEASURED[name].value for name in ("client_us", "decode_us", "route_us"))
    models = load.experts + (load.shadows if load.shadow_models is None else load.shadow_models)
    return fixed + models * load.model_us + load.shadows * MEASURED["audit_us"].value


def _check(load: Load) -> None:
    problems = []
    if load.largest_tenant is not None and load.largest_tenant * load.tenants < 1 - 1e-9:
        least = f"the largest of {load.tenants} tenants has {1 / load.tenants:.3g} of the events at least"
        problems.append(Problem("--largest-tenant", f"{load.largest_tenant:g} is less than any share", least))
    if load.models is not None and load.models < load.experts:
        problems.append(Problem("--models", f"there are {load.models}, and an event is scored by {load.experts}"))
    if problems:
        raise ConfigError(problems)


def _reference_us() -> float:
    return live_us(Load(1))


def _sized(load: Load, us: float, latency_ms: float | None) -> _Group:
    """Return how many workers there must be."""
    planned = 1e6 / us * load.utilisation
    if latency_ms is not None:
        planned = min(planned, _rate_within(load, us, latency_ms))
    workers = max(load.machines, math.ceil(load.events_per_s / planned - 1e-9))
    return _Group(us, workers, load.events_per_s / workers)


def _rate_within(load: Load, us: float, latency_ms: float) -> float:
    """Return the greatest rate of one worker that was measured to keep a latency, for events of this cost."""
    # a rate is kept only if the lower ones are, too: a load is not always at its height
    within = takewhile(lambda pace: pace.p99_ms + _spread_ms(load, pace) <= latency_ms, PACES)
    kept = [pace.events_per_s for pace in within]
    if not kept:
        least = PACES[0]
        found = f"{least.p99_ms + _spread_ms(load, least):g} ms"
        said = f"the p99 that was measured at the lowest rate, {least.events_per_s:,.0f} events/s a worker, is {found}"
        raise ConfigError([Problem("--latency", f"{latency_ms:g} ms was never measured", said)])
    return max(kept) * _reference_us() / us


def _spread_ms(load: Load, pace: Pace) -> float:
    """Return what outputs of their own add to the p99 of a worker that reads all tenants, a partition each."""
    touched = 0.0 if load.shared_outputs else min(load.tenants, pace.events_per_s * GATHERED_S)
    return _own_ms(math.ceil(touched)) if touched > TOUCHED_MEASURED else 0.0


def _partitions(load: Load, groups: list[_Group]) -> int:
    """Return the partitions of each event topic; raises ConfigError where those that are asked for are too few."""
    workers, hottest = max(one.workers for one in groups), load.largest_tenant or 1 / load.tenants
    least = max(
        math.ceil(workers / load.tenants),
        *(math.ceil(hottest * load.events_per_s / one.capacity - 1e-9) for one in groups),
    )
    if load.partitions is not None:
        if load.partitions < least:
            why = f"{workers} workers have work with {least} partitions for each of {load.tenants} tenants"
            raise ConfigError([Problem("--partitions", f"{load.partitions} are too few", why)])
        return load.partitions
    even = math.ceil(2 * workers / load.tenants)
    return max(least, even, *(math.ceil(hottest * load.events_per_s / one.rate - 1e-9) for one in groups))


def _touched(load: Load, live: _Group, partitions: int) -> int:
    """Return to how many score partitions a transaction of a worker writes at most."""
    mine = load.tenants * partitions / live.workers
    topics = min(partitions, mine) if load.shared_outputs else mine
    return max(1, math.ceil(min(topics, live.rate * GATHERED_S, MOST_BATCH)))


def _own_ms(touched: int) -> float:
    return touched * MEASURED["own_output_ms"].value


def _workers(load: Load, live: _Group, shadow: _Group | None) -> dict[str, Figure]:
    scaled = "each is taken to do what one does" if not live.known else "one on each machine at least"
    known = load.model_us == MEASURED["model_us"].value and load.experts == 1
    cost: Basis = "measured" if known else "extrapolated"
    basis: Basis = cost if live.known else "extrapolated"
    kept = f", a p99 of {load.latency_ms:g} ms" if load.latency_ms is not None else ""
    figures = {
        "live_us": Figure("CPU of a live worker for an event", live.us, "us", cost, "client, decode, models, encode"),
        "live_workers": Figure(
            "live workers", live.workers, "", basis, f"{load.utilisation:.0%} of a core at most{kept}; {scaled}"
        ),
        "live_rate": Figure("events/s of each", live.rate, "1/s", basis, f"of {live.capacity:,.0f} that one can do"),
    }
    if shadow:
        figures |= {
            "shadow_us": Figure(
                "CPU of a shadow worker for an event", shadow.us, "us", "extrapolated", "models, audit records"
            ),
            "shadow_workers": Figure("shadow workers", shadow.workers, "", "extrapolated", scaled),
        }
    groups = [live, *([shadow] if shadow else [])]
    figures["cores"] = Figure(
        "cores for workers", sum(one.workers for one in groups), "", basis, "one each; spares and supervisors idle"
    )
    figures["cores_used"] = Figure(
        "of these in use", sum(one.workers * _cores(one) for one in groups), "", _paced(live), "CPU at this rate"
    )
    return figures


def _equivalent(group: _Group) -> float:
    """Return the rate at which a worker of the measured cost is as busy."""
    return round(group.rate * group.us / _reference_us(), 6)


def _cores(group: _Group) -> float:
    """Return the share of a core that a worker uses: what was measured at the next greater rate, or more."""
    at = _equivalent(group)
    above = next((pace.cores for pace in PACES if pace.events_per_s >= at), PACES[-1].cores)
    return max(above, group.rate * group.us / 1e6)


def _paced(group: _Group) -> Basis:
    return "measured" if group.known and _equivalent(group) <= PACES[-1].events_per_s else "extrapolated"


def _topics(load: Load, partitions: int, groups: list[_Group]) -> dict[str, Figure]:
    kinds = 2 + bool(load.shadows)
    outputs = kinds * partitions * (1 if load.shared_outputs else load.tenants)
    total = load.tenants * partitions + outputs
    basis: Basis = "asked" if load.partitions is not None else "chosen"
    why = f"at least two for each of {max(one.workers for one in groups)} workers; the busiest fits a worker"
    held = f"events, scores, dead letters{', audit records' if load.shadows else ''}; "
    return {
        "partitions": Figure("partitions of each event topic", partitions, "", basis, why),
        "partitions_all": Figure(
            "partitions in all", total, "", basis, f"{held}{total * load.replication:,} with replicas"
        ),
    }


def _latency(load: Load, live: _Group, partitions: int) -> dict[str, Figure]:
    at, touched = _equivalent(live), _touched(load, live, partitions)
    pace = next((one for one in PACES if one.events_per_s >= at), None)
    if pace is None:
        return {}
    p99_ms = max(one.p99_ms for one in PACES if one.events_per_s <= pace.events_per_s)
    more = _own_ms(touched) if not load.shared_outputs and touched > TOUCHED_MEASURED else 0.0
    basis: Basis = "measured" if _paced(live) == "measured" and not more else "extrapolated"
    how = f"a worker at {pace.events_per_s:,.0f} events/s, replication 1"
    return {
        "p99_ms": Figure("p99 at most, produced to visible", p99_ms + more, "ms", basis, how),
    }


def _brokers(load: Load, groups: list[_Group], partitions: int) -> dict[str, Figure]:
    value = {name: one.value for name, one in MEASURED.items()}
    live, read = groups[0], len(groups)
    answers = value["score_bytes"] + load.shadows * value["audit_bytes"]
    written = load.events_per_s * (load.event_bytes + answers)
    stored = written * load.replication
    out = load.events_per_s * (load.event_bytes * read + value["score_bytes"]) + written * (load.replication - 1)
    transactions = sum(one.workers * min(one.rate, value["batches_per_s"]) for one in groups)
    us = (value["broker_sent_us"] + read * value["broker_drained_us"]) * load.replication
    one_broker: Basis = "measured" if load.replication == REPLICATION_MEASURED and live.known else "extrapolated"
    copies = "each replica is taken to cost as much as the first"
    return {
        "broker_in": Figure(
            "brokers: written", stored / 1e6, "MB/s", "extrapolated", f"{load.replication} replicas, not compressed"
        ),
        "broker_out": Figure(
            "brokers: read", out / 1e6, "MB/s", "extrapolated", "workers, replicas, one reader of scores"
        ),
        "broker_cores": Figure("brokers: CPU", load.events_per_s * us / 1e6, "cores", one_broker, copies),
        "transactions": Figure(
            "transactions",
            transactions,
            "1/s",
            _paced(live),
            f"each writes to {_touched(load, live, partitions)} score partitions; fewer and larger under load",
        ),
        "disk_per_day": Figure("disk for a day", stored * 86_400 / 1e9, "GB", "extrapolated", "at this rate all day"),
    }


def _memory(load: Load, groups: list[_Group]) -> dict[str, Figure]:
    value = {name: one.value for name, one in MEASURED.items()}
    models = load.predictors if load.models is None else load.models
    loaded = models * value["model_mb"] + load.predictors * value["predictor_mb"]
    worker = value["worker_mb"] + 2 * loaded
    workers, runs = sum(one.workers for one in groups), len(groups) * load.machines
    total = workers * worker + runs * (2 * value["spare_mb"] + 2 * loaded)
    how = f"{models} models, {load.predictors} predictors; twice these while a generation is swapped in"
    return {
        "worker_mb": Figure("memory of a worker", worker, "MB", "extrapolated", how),
        "memory_gb": Figure(
            "memory in all", total / 1e3, "GB", "extrapolated", f"and a supervisor and a spare on each of {runs} runs"
        ),
    }


def _failover(load: Load, live: _Group) -> dict[str, Figure]:
    told = {
        "kill_worker_s": "its partitions wait; the spare takes over",
        "kill_run_s": "its partitions wait; it is started again at once",
        "lose_machine_s": "its partitions wait until the session of 9 s is over",
    }
    if load.machines == 1:
        del told["lose_machine_s"]
    figures = {
        name: Figure(MEASURED[name].what, MEASURED[name].value, "s", "measured", how) for name, how in told.items()
    }
    left = live.workers - math.ceil(live.workers / load.machines)
    free = left * live.capacity - load.events_per_s
    if left and free > 0:
        waited = load.events_per_s * (1 - left / live.workers) * MEASURED["lose_machine_s"].value
        how = f"{left} workers are left"
        figures["catch_up_s"] = Figure("and until what waited is scored", waited / free, "s", "extrapolated", how)
    return figures
