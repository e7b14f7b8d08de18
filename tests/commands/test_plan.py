"""`plan`: what a load needs, from what was measured."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from muse_stream.cli.main import main
from muse_stream.commands.plan import MEASURED, PACES, Load, live_us, plan, shadow_us
from muse_stream.errors import ConfigError
from perf.__main__ import SCENARIOS
from perf.tables import LOADS

Output = pytest.CaptureFixture[str]


def value(load: Load, key: str) -> float:
    return plan(load).figures[key].value


def test_more_of_anything_never_needs_less() -> None:
    """Events, models, shadows, replicas: no figure of cost falls."""
    base = Load(50_000, 10, 20)
    costs = ("live_workers", "cores", "broker_in", "broker_out", "broker_cores", "memory_gb", "partitions_all")
    for more in (
        replace(base, events_per_s=500_000),
        replace(base, experts=4),
        replace(base, model_us=20.0),
        replace(base, shadows=3),
        replace(base, predictors=500),
        replace(base, largest_tenant=0.9),
        replace(base, replication=5),
        replace(base, latency_ms=50.0),
    ):
        before, after = plan(base).figures, plan(more).figures
        assert [key for key in costs if after[key].value < before[key].value] == [], more


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_what_is_planned_carries_the_load(load: Load) -> None:
    figures = plan(load).figures
    workers, partitions = figures["live_workers"].value, figures["partitions"].value
    capacity = 1e6 / live_us(load)
    assert workers * capacity * load.utilisation >= load.events_per_s
    assert workers >= load.machines
    assert load.tenants * partitions >= 2 * workers
    assert load.events_per_s / load.tenants / partitions <= capacity
    assert figures["cores_used"].value <= figures["cores"].value


def test_the_busiest_tenants_partitions_fit_a_worker() -> None:
    load = Load(1_000_000, 100, largest_tenant=0.8)
    assert 800_000 / value(load, "partitions") <= 1e6 / live_us(load)


def test_a_wanted_latency_costs_workers_and_is_kept() -> None:
    slow, fast = Load(20_000), Load(20_000, latency_ms=PACES[0].p99_ms, shared_outputs=True)
    assert value(fast, "live_workers") > value(slow, "live_workers")
    assert value(fast, "p99_ms") <= PACES[0].p99_ms
    dear = replace(fast, model_us=20 * fast.model_us)
    assert value(dear, "live_workers") > value(fast, "live_workers"), "its batches take longer"


@pytest.mark.parametrize("latency_ms", range(20, 60))
def test_a_latency_is_refused_or_kept_at_every_rate(latency_ms: int) -> None:
    """The p99 that was measured does not rise with the rate: at 1,000 events/s it was less than at 100."""
    for rate in (10, 100, 150, 1_000, 1_500, 5_000, 20_000):
        try:
            found = plan(Load(rate, latency_ms=float(latency_ms), shared_outputs=True))
        except ConfigError:
            assert latency_ms < PACES[0].p99_ms
        else:
            assert found.figures["p99_ms"].value <= latency_ms


def test_what_was_measured_is_told_from_what_was_not() -> None:
    within, beyond = plan(Load(1_744)).figures, plan(Load(1_000_000)).figures
    assert within["live_workers"].basis == within["p99_ms"].basis == "measured"
    assert beyond["live_workers"].basis == "extrapolated"
    assert "p99_ms" not in beyond, "never measured at such a rate"
    assert plan(Load(100, model_us=8.0)).figures["live_us"].basis == "extrapolated"
    assert plan(Load(100, partitions=4)).figures["partitions"].basis == "asked"


def test_shadows_run_in_workers_of_their_own() -> None:
    load = Load(100_000, shadows=3, shadow_models=1)
    own = replace(load, shadow_models=None)
    assert live_us(load) == live_us(Load(100_000))
    assert shadow_us(own) == pytest.approx(shadow_us(load) + 2 * load.model_us)
    assert value(load, "cores") == value(load, "live_workers") + value(load, "shadow_workers")


@pytest.mark.parametrize(
    ("load", "option", "hint"),
    [
        (Load(100, latency_ms=1.0), "--latency", "the p99 that was measured at the lowest rate"),
        (Load(1_000_000, partitions=2), "--partitions", "workers have work"),
        (Load(100, tenants=4, largest_tenant=0.1), "--largest-tenant", "0.25 of the events at least"),
        (Load(100, models=1, experts=4), "--models", ""),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(load: Load, option: str, hint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        plan(load)
    (problem,) = refused.value.problems
    assert problem.path == option
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (Load(1_000, tenants=100), "share output topics"),
        (Load(1_000, machines=1), "nobody takes over"),
        (Load(1_000_000, utilisation=0.9, machines=2), "the others cannot carry the load"),
    ],
)
def test_warnings(load: Load, said: str) -> None:
    assert [warning for warning in plan(load).warnings if said in warning]


def test_each_constant_names_a_command_that_exists() -> None:
    for constant in MEASURED.values():
        words = constant.command.split()
        assert words[:4] == ["python", "-m", "perf", "run"]
        named = [word for before, word in pairwise(words) if before == "--scenario"]
        assert named
        assert set(named) <= SCENARIOS.keys(), constant.command


def test_the_command(capsys: Output) -> None:
    assert main(["plan", "--events-per-second", "1744", "--tenants", "60", "--predictors", "300", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["plan"]["live_workers"] == {
        "value": 2,
        "unit": "",
        "basis": "measured",
        "how": "50% of a core at most; one on each machine at least",
    }
    assert shown["constants"]["model_us"]["command"].endswith("--scenario stages --json")
    assert main(["plan", "--events-per-second", "1000", "--tenants", "100"]) == 0
    table = capsys.readouterr()
    assert "live workers" in table.out
    assert "warning: a transaction writes to" in table.err
    assert main(["plan", "--events-per-second", "100", "--latency", "1"]) == 2
    assert main(["plan", "--events-per-second", "0"]) == 2
    assert main(["plan"]) == 2
