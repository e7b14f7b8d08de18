"""Exactly once while brokers are killed and restarted: the short form; `make faults` is the long one.

One broker of the pinned version, three of it with replication 3, and one of the version that forgets transaction
markers. What a forgotten marker does, case by case and at a known moment: tests/worker/test_recovery.py.
"""

from pathlib import Path

import pytest

from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.kafka_jars import missing_tools, version
from tests.faults.run import Scenario, run
from tests.patience import PATIENCE

pytestmark = [
    pytest.mark.broker,
    pytest.mark.long,  # tests/worker/test_broken_broker.py has a broker that stands still
    pytest.mark.timeout(240 * PATIENCE),
    pytest.mark.skipif(bool(missing_tools()), reason=f"brokers of their own are run by the JVM: {missing_tools()}"),
]
SHORT = {"seconds": 0.0, "rate": 600, "tenants": 2, "partitions": 2, "workers": 1, "calm_s": (1.0, 3.0)}
PINNED = version(PLACES)


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(PINNED, 1, 1, ("kill-all", "clean-all"), **SHORT),  # type: ignore[arg-type]
        pytest.param(
            Scenario(PINNED, 3, 3, ("kill-leader", "kill-all"), **SHORT),  # type: ignore[arg-type]
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Scenario("4.3.1", 1, 1, ("clean-all", "kill-all"), **SHORT),  # type: ignore[arg-type]
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda one: one.name,
)
def test_nothing_is_lost_or_doubled(scenario: Scenario, tmp_path: Path) -> None:
    result = run(scenario, tmp_path, lambda _line: None)
    assert result.faults == list(scenario.faults)
    assert result.ok, (result.examples, result)
