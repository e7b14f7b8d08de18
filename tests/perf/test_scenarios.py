"""The benchmarks' own code, on sizes that take seconds: it runs, and it sees wrong answers. Never how fast.

Two scenarios stand for all of them, the others are slow: `live` with a peer, and `latency`. Kafka Streams is built and
run by `make test-all` alone: Maven would fetch a hundred megabytes for it in every run of CI (perf/README.md).
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from muse_stream.errors import MuseError
from muse_stream.testing import Broker
from perf import latency, latency_peers, tables, throughput, workload
from perf.__main__ import SCENARIOS, SIZES
from perf.latency import Phase, Seen

TINY = 2_000


@cache
def made_up() -> workload.Data:
    return workload.made_up(6_000)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Events and models of a size for tests."""
    made = made_up()
    monkeypatch.setattr(workload, "read_data", lambda: made)
    monkeypatch.setattr(workload, "TRAIN_ROWS", 4_000)
    monkeypatch.setattr(workload, "FIT_ROWS", 2_000)
    yield


@pytest.mark.long  # trains a model and starts workers and a peer; the tests below have how it is counted
def test_a_backlog_is_drained_and_checked_by_worker_echo_and_peer(kafka: Broker, tmp_path: Path) -> None:
    contest = throughput.Contest((throughput.LIVE,), peers=("per-event", "columnar", "model"))
    figures = throughput.run(kafka.bootstrap, tmp_path, contest, TINY, repeats=1)
    assert figures["events"] == figures["per_event_events"] == TINY
    assert figures["checked"] == f"{TINY} answers, {TINY} scores to the bit"
    for key in ("of_echo", "per_event_events_per_s", "of_per_event", "of_columnar", "of_model"):
        assert float(figures[key]) > 0
    # a few events may be committed at once, and take less than the clock of processor time can tell
    assert float(figures["worker_cpu_s_per_million"]) >= 0


@pytest.mark.long  # as above
def test_latency_is_counted_from_the_due_time(kafka: Broker, tmp_path: Path) -> None:
    figures = latency.run(kafka.bootstrap, tmp_path, (100,), settle_s=0.1, counted_s=0.5, warm_most_s=0.1)
    assert figures["checked"] == "each answered once"
    assert 0 < float(figures["p50_ms_100"]) <= float(figures["p99_ms_100"]) <= float(figures["max_ms_100"])


@pytest.mark.long  # as above
def test_latency_is_measured_beside_the_loop_alone(kafka: Broker, tmp_path: Path) -> None:
    figures = latency_peers.run(
        kafka.bootstrap,
        tmp_path,
        turns=1,
        rates=(100,),
        warm_most_s=0.1,
        counted_s=0.5,
        contenders=(latency_peers.WORKER, latency_peers.ECHO),
    )
    assert figures["checked"] == "each answered once"
    for name in ("worker", "echo"):
        assert 0 < float(figures[f"{name}_p50_ms_100"]) <= float(figures[f"{name}_p99_ms_100"])
    ratio = float(figures["worker_p99_ms_100"]) / float(figures["echo_p99_ms_100"])
    assert float(figures["p99_of_echo_100"]) == pytest.approx(ratio, abs=0.006)


def test_an_event_without_an_answer_or_with_two_is_no_latency() -> None:
    for numbers, told in (([0, 1, 1], "3 answers to 2 events, not to 2"), ([0], "1 answers to 1 events, not to 2")):
        number = np.array(numbers)
        seen = Seen(number, number, number, [0, 1], [0.0, 0.0], sent=2)
        with pytest.raises(MuseError, match=told):
            seen.check()


def test_events_are_due_at_the_rate_of_their_phase() -> None:
    due = latency._due_after([Phase(1_000, 0.01), Phase(100, 0.03)])
    assert due.tolist() == [*range(0, 10_000_000, 1_000_000), 10_000_000, 20_000_000, 30_000_000]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        *(
            "live",
            "live-limits",
            "peers",
            "live-decimal",
            "shadow",
            "tenants",
            "tenants-10",
            "skew",
            "wide",
            "deep",
            "scale-2",
        ),
        *("latency", "latency-peers", "tenants-latency", "skew-latency", "idle", "swap-each-second", "backlog"),
    ],
)
def test_every_scenario_runs_and_fills_its_row(kafka: Broker, tmp_path: Path, name: str) -> None:
    figures = {"scenario": name} | SCENARIOS[name](kafka.bootstrap, tmp_path, SIZES["tiny"])
    if any("not measured" in str(figure) for figure in figures.values()):
        pytest.skip(f"a peer cannot run here: {figures}")
    rows = [row for row in (*tables.BOUNDED, *tables.LONGER) if row.scenario == name and "{p50_ms}" not in row.text]
    assert [row.what for row in rows if row.line({name: figures}) is None] == []
