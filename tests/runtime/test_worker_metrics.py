"""What a worker shows: every metric that docs/metrics.md names and no other, of the tenants it serves and no other."""

import math
import re
from array import array
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter as Total
from prometheus_client import Gauge, generate_latest

from muse_stream.commands.watch_metrics import WatchMetrics
from muse_stream.config import Role, load_document
from muse_stream.errors import Reason, RegistryError
from muse_stream.runtime import run_pages
from muse_stream.runtime.calibrate_metrics import CalibrateMetrics
from muse_stream.runtime.score_counts import ScoreGroups
from muse_stream.runtime.worker_metrics import WorkerMeter
from muse_stream.schema_registry.cache import SchemaCache
from muse_stream.schema_registry.registry import Registry
from muse_stream.worker.backlog import UNKNOWN_S, Waiting
from muse_stream.worker.batch import BatchLimits, Scorer, Tally, Topology
from tests.patience import until

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
DOCUMENT = load_document(ROOT / "deploy" / "config" / "muse.yaml").document
OTHERS = {
    "muse_build_info": ("gauge", frozenset({"version"})),
    run_pages.UP: ("gauge", frozenset({"slot"})),
}
"""Of every process of ours, and of the page of a run."""


class Generation:
    """The part of a scorer that a meter looks at."""

    def __init__(self, tenants: dict[str, tuple[str, ...]], role: Role = "live", number: int = 1) -> None:
        self.number, self.limits = number, BatchLimits()
        self.topology = Topology({topic: frozenset() for topic in tenants}, {}, tenants)
        self.book = ScoreGroups(DOCUMENT, "main", role)

    def score(self, *_: object) -> Any:
        raise AssertionError("nobody scores here")

    origins = score
    answers = score


def generation(*args: Any, **options: Any) -> Scorer:
    return Generation(*args, **options)


def page(meter: WorkerMeter) -> str:
    return generate_latest(meter.registry).decode()


def shown(meter: WorkerMeter) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Metric -> labels -> value, of our own metrics."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for name, labels, value in re.findall(r"^(muse_\w+)(?:\{(.*)\})? (\S+)$", page(meter), re.MULTILINE):
        pairs = tuple(sorted(re.findall(r'(\w+)="([^"]*)"', labels)))
        found.setdefault(name, {})[pairs] = float(value)
    return found


def fed(role: Role) -> WorkerMeter:
    """A meter that has been told everything there is to tell."""
    meter = WorkerMeter(role, "main", 3)
    serving = generation({"events.acme": ("acme",)}, role)
    meter.serving(serving)
    assert isinstance(serving.book, ScoreGroups)
    groups = array("i", [serving.book.pairs[0].first])
    meter.scored(10, 0.01)
    tally = Tally(groups, serving.book, Counter({("acme", "missing-id"): 1}), {"cards": 2})
    meter.committed(10, tally, 0.02)
    meter.latency(array("q", [1_000]), 1, 1.5)
    meter.stages({"decode": 0.1})
    meter.swapped(0.001)
    meter.rebalanced({"assigned": 1})
    meter.aborted("_TIMED_OUT")
    meter.hanging(0)
    meter.hanging_ended(3, 1)
    meter.waiting({"events.acme": Waiting(3, 1.0)})
    meter.paused({})
    meter.traces(lambda: {"exported": 1})
    return meter


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    """Metric -> type and labels, of the table in docs/metrics.md."""
    rows = re.findall(r"^\| `(muse_\w+)` \| (\w+) \|([^|]*)\|", DOCS, re.MULTILINE)
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def watched() -> dict[str, tuple[str, frozenset[str]]]:
    """Those that `watch` and the role `calibrate` serve; only the client's objects know labels without values."""
    counting = CalibrateMetrics("main", 0)
    served = [one for part in (WatchMetrics(), counting, counting._refreshes) for one in vars(part).values()]
    metrics = [one for one in served if isinstance(one, Gauge | Total)]
    families = [(next(iter(one.describe())), frozenset(one._labelnames)) for one in metrics]
    return {family.name + "_total" * (family.type == "counter"): (family.type, labels) for family, labels in families}


def test_the_page_names_every_metric_and_every_metric_is_on_the_page() -> None:
    found: dict[str, tuple[str, frozenset[str]]] = OTHERS | watched()
    for role in ("live", "shadow"):
        meter = fed(role)
        kinds = dict(re.findall(r"^# TYPE (muse_\w+) (\w+)$", page(meter), re.MULTILINE))
        for name, series in shown(meter).items():
            family = re.sub(r"_(bucket|count|sum)$", "", name) if name not in kinds else name
            labels = {label for pairs in series for label, _ in pairs} - {"le"}
            found[family] = (kinds[family], frozenset(labels))
    assert documented() == found


def test_process_and_build_are_always_there() -> None:
    text = page(WorkerMeter("live", "main", 0))
    assert f'muse_build_info{{version="{version("muse-stream")}"}} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_events_are_counted_when_their_answers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who reads in between sees no event whose score is missing, and no generation whose tenants are not shown yet."""
    meter, serving = WorkerMeter("live", "main", 0), generation({"events.acme": ("acme",)})
    seen: list[tuple[float, float]] = []

    def look(*_: object) -> None:
        found = shown(meter)
        seen.append((found["muse_events_committed_total"][()], found["muse_generation"][()]))

    monkeypatch.setattr(meter._lane.scores, "serve", look)
    monkeypatch.setattr(meter._lane.scores, "add", look)
    meter.serving(serving)
    assert isinstance(serving.book, ScoreGroups)
    meter.committed(10, Tally(array("i"), serving.book, Counter(), {}), None)
    assert seen == [(0.0, 0.0), (0.0, 1.0)]


def test_a_counter_is_one_series() -> None:
    """The client library would add one that says when each counter was made."""
    assert "_created" not in page(fed("live"))


def test_every_metric_in_the_queries_of_the_page_exists() -> None:
    named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bmuse_\w+", DOCS)}
    assert named <= documented().keys()


def test_a_registry_that_does_not_answer_is_one_and_what_is_asked_is_counted(tmp_path: Path) -> None:
    meter, registry = WorkerMeter("live", "main", 0), Registry(Silent(), SchemaCache("", tmp_path), wait_s=0.0)
    assert (shown(meter)["muse_schema_registry_away"][()], registry.waiting) == (0.0, 0)
    meter.asks(registry)
    registry.expect([7, 8])
    until(lambda: registry.away, 20)
    found = shown(meter)
    assert found["muse_schema_registry_away"][()] == 1.0
    assert found["muse_schema_registry_schemas_waiting"][()] == 2.0


class Silent:
    """A registry's client that gets no answer."""

    url = "http://registry:8081"

    def text(self, *_: object) -> Any:
        raise RegistryError("no route to host")

    versions = version = registered = text


def test_a_paused_tenant_is_one_and_the_others_are_zero() -> None:
    meter = WorkerMeter("live", "main", 0)
    assert shown(meter).get("muse_tenant_paused", {}) == {}
    meter.serving(generation({"events.acme": ("acme",), "shared": ("globex", "initech")}))
    assert set(shown(meter)["muse_tenant_paused"].values()) == {0.0}
    meter.paused({"shared": "no leader", "events.gone": "no topic"})
    paused = {pairs[0][1]: value for pairs, value in shown(meter)["muse_tenant_paused"].items()}
    assert paused == {"acme": 0.0, "globex": 1.0, "initech": 1.0}
    meter.paused({})
    assert set(shown(meter)["muse_tenant_paused"].values()) == {0.0}


def test_age_grows_by_itself_until_it_is_told_that_nothing_waits() -> None:
    now = [1_000.0]
    meter = WorkerMeter("live", "main", 0, lambda: now[0], lambda: 0.0)
    meter.serving(generation({"events.acme": ("acme",), "events.globex": ("globex",)}))

    def age() -> float:
        return shown(meter)["muse_tenant_oldest_unscored_age_seconds"][("tenant", "acme"),]

    assert math.isnan(age()), "nobody has told anything"
    meter.waiting({"events.acme": Waiting(7, 990.0)})
    assert age() == 10.0
    assert shown(meter)["muse_tenant_lag_events"] == {(("tenant", "acme"),): 7.0, (("tenant", "globex"),): 0.0}
    now[0] += 60
    assert age() == 70.0, "a worker that hangs tells nothing more"
    meter.waiting({"events.acme": Waiting(7, now[0] + 5)})
    assert age() == 0.0, "a producer's clock may be ahead"
    meter.waiting({"events.acme": Waiting()})
    assert age() == 0.0


def test_what_is_not_known_is_no_number() -> None:
    ticks = [1_000.0]
    meter = WorkerMeter("live", "main", 0, lambda: 100.0, lambda: ticks[0])
    lag, age = "muse_tenant_lag_events", "muse_tenant_oldest_unscored_age_seconds"
    assert math.isnan(shown(meter)["muse_lag_events"][()]), "before the first generation"
    meter.serving(generation({"a": ("acme",), "b": ("globex",), "c": ("initech",)}))

    def now(name: str) -> dict[str, float]:
        return {pairs[0][1]: value for pairs, value in shown(meter)[name].items()}

    def known(name: str) -> dict[str, float]:
        return {tenant: value for tenant, value in now(name).items() if not math.isnan(value)}

    assert (known(lag), known(age)) == ({}, {}), "nobody has told anything yet"
    assert set(now("muse_tenant_lag_unknown").values()) == {1.0}
    meter.waiting(
        {"a": Waiting(3, 90.0, unknown=True), "b": Waiting(unknown=True), "c": Waiting(9, 95.0, held=4, removed=2)}
    )
    assert now("muse_tenant_lag_unknown") == {"acme": 1.0, "globex": 1.0, "initech": 0.0}
    assert known(lag) == {"initech": 9.0}
    assert known(age) == {"acme": 10.0, "initech": 5.0}, "what is known to wait grows older, whatever else is not known"
    assert now("muse_tenant_undecided_events")["initech"] == 4.0
    assert now("muse_tenant_removed_unread_events")["initech"] == 2.0
    assert math.isnan(shown(meter)["muse_lag_events"][()]), "a sum with something that is not known"
    meter.waiting({"c": Waiting(9, 95.0)})
    assert shown(meter)["muse_lag_events"] == {(): 9.0}
    ticks[0] += UNKNOWN_S + 1
    assert set(now("muse_tenant_lag_unknown").values()) == {1.0}, "a worker that hangs tells nothing more"
    assert (known(lag), known(age)) == ({}, {"initech": 5.0})


def test_a_tenant_that_leaves_takes_its_series_with_it() -> None:
    meter = WorkerMeter("live", "main", 0)
    both = generation({"events.acme": ("acme",), "events.globex": ("globex",)})
    meter.serving(both)
    letters = Counter({("acme", str(Reason.NO_ROUTE)): 2, ("globex", "oversize"): 1, (None, "unknown-tenant"): 4})
    meter.committed(7, Tally(array("i"), None, letters), None)
    meter.paused({"events.globex": "no topic"})
    meter.waiting({"events.globex": Waiting(5, 1.0)})
    assert 'tenant="globex"' in page(meter)
    meter.serving(generation({"events.acme": ("acme",)}, number=2))
    assert "globex" not in page(meter)
    assert shown(meter)["muse_dead_letters_total"] == {
        (("reason", "no-route"), ("tenant", "acme")): 2.0,
        (("reason", "unknown-tenant"), ("tenant", "(unknown)")): 4.0,
    }


@pytest.mark.parametrize("role", ["live", "shadow"])
def test_the_promise_stands_beside_the_scores(role: Role) -> None:
    promised = shown(fed(role))["muse_promised_alert_ratio"]
    name = "cards" if role == "live" else "cards-next"
    assert promised[("predictor", name), ("threshold", "0.8")] == 0.05
    assert not any(pairs[0][1] == "unmapped" for pairs in promised)


def test_live_and_shadow_scores_cannot_be_mixed_up() -> None:
    """Summed over all workers, answers would count twice."""
    assert not {"muse_shadow_scores_total", "muse_shadow_scores_at_or_above_total"} & shown(fed("live")).keys()
    assert not {"muse_scores_total", "muse_scores_at_or_above_total"} & shown(fed("shadow")).keys()


def test_latency_is_counted_for_every_event_of_a_batch() -> None:
    meter = WorkerMeter("live", "main", 0)
    at_s = 10_000.0
    ages_ms = [1, 5, 6, 999, 1_000, 1_001, 40 * 60_000]
    meter.latency(array("q", [int(at_s * 1000) - age for age in ages_ms]), len(ages_ms), at_s)
    found = shown(meter)
    buckets = {dict(pairs)["le"]: count for pairs, count in found["muse_answer_latency_seconds_bucket"].items()}
    assert (buckets["0.005"], buckets["0.01"], buckets["1.0"], buckets["2.5"]) == (2, 3, 5, 6)
    assert (buckets["1800.0"], buckets["+Inf"]) == (6, 7)
    assert found["muse_answer_latency_seconds_count"][()] == 7
    assert found["muse_answer_latency_seconds_sum"][()] == pytest.approx(sum(ages_ms) / 1000)
    assert found["muse_events_ahead_of_clock_total"][()] == 0


def test_some_events_of_a_large_batch_stand_for_all() -> None:
    meter = WorkerMeter("shadow", "main", 0)
    meter.latency(array("q", [0, -1, 9_000, 9_500, 10_900, 13_000_000]), 600, 10.0)
    found = shown(meter)
    assert found["muse_shadow_latency_seconds_count"][()] == 400, "records without a timestamp are not counted"
    assert found["muse_shadow_latency_seconds_sum"][()] == pytest.approx(100 * 1.5)
    assert found["muse_events_ahead_of_clock_total"][()] == 100, "a clock that is less than a second ahead is no news"


def test_a_transaction_has_one_of_two_outcomes() -> None:
    meter = WorkerMeter("live", "main", 0)
    outcomes = shown(meter)["muse_transactions_total"]
    assert outcomes == {(("outcome", "aborted"),): 0.0, (("outcome", "committed"),): 0.0}, "there from the start"
    meter.committed(1, None, 0.1)
    meter.committed(1, None, None)
    meter.aborted("_TIMED_OUT")
    outcomes = shown(meter)["muse_transactions_total"]
    assert outcomes == {(("outcome", "aborted"),): 1.0, (("outcome", "committed"),): 2.0}


def test_each_stage_has_the_time_of_every_batch() -> None:
    meter = WorkerMeter("live", "main", 0)
    meter.stages({"decode": 0.25, "send": 0.5})
    meter.stages({"decode": 0.5, "send": 0.5})
    meter.committed(1, None, 2.0)
    meter.committed(1, None, None)  # found out later: nobody knows how long it took
    wanted = {"decode": (2.0, 0.75), "send": (2.0, 1.0), "commit": (1.0, 2.0)}
    found = {
        stage: tuple(
            meter.registry.get_sample_value(f"muse_stage_seconds_{kind}", {"stage": stage}) for kind in ("count", "sum")
        )
        for stage in wanted
    }
    assert found == wanted


def test_a_worker_that_cannot_open_its_clients_shows_whose_events_nobody_knows() -> None:
    """Without a broker workers end and are replaced before they serve: whoever is paged for it must see something."""
    meter = WorkerMeter("live", "main", 0)
    meter.expects(generation({"events.acme": ("acme",)}))
    found = shown(meter)
    assert found["muse_tenant_lag_unknown"] == {(("tenant", "acme"),): 1.0}
    assert found["muse_generation"][()] == 0.0, "it serves none yet"
