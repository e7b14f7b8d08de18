"""The benchmarks' own code, on sizes that take seconds: it runs, and it sees wrong answers. Never how fast."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from muse_stream.testing import Broker
from perf import workload
from perf.__main__ import SCENARIOS, SIZES

TINY = 2_000


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Events and models of a size for tests."""
    made = workload.made_up(6_000)
    monkeypatch.setattr(workload, "read_data", lambda: made)
    monkeypatch.setattr(workload, "TRAIN_ROWS", 4_000)
    monkeypatch.setattr(workload, "FIT_ROWS", 2_000)
    yield


@pytest.mark.parametrize(
    "name",
    [
        "shadow",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("live", "tenants-10", "skew", "wide", "deep", "scale-2")
        ),
    ],
)
def test_a_backlog_is_drained_and_checked(kafka: Broker, tmp_path: Path, name: str) -> None:
    figures = SCENARIOS[name](kafka.bootstrap, tmp_path, SIZES["tiny"])
    assert figures["events"] == TINY
    answers = 3 * TINY if name == "shadow" else TINY
    assert figures["checked"] == f"{answers} answers, {TINY} scores to the bit"
    assert float(figures["worker_cpu_s_per_million"]) > 0
    assert float(figures["echo_events_per_s"]) > 0
