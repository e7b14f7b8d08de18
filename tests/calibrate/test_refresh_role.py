"""Refresh by the role itself, from records on a broker to the generation that is current."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from muse_stream.config import KafkaSettings
from muse_stream.testing.kafka_broker import Broker
from tests.calibrate.refreshing import Bank
from tests.calibrate.scores import Scores

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
MakeTopic = Callable[..., str]
STEP = 0.5
THRESHOLDS = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}


@pytest.fixture
def bank(tmp_path: Path, unique: Callable[[str], str], kafka: Broker, make_topic: MakeTopic) -> Iterator[Bank]:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    refresh = {"policies": {"acme": "apply"}, "step": STEP, "least_hours": 20}
    scores = Scores(folder, unique("bank"), str(tmp_path / "store"), refresh)
    scores.publish()
    for kind in ("scores", "audit"):
        for tenant in ("acme", "globex"):
            make_topic(name=scores.topic(kind, tenant), partitions=2)
    yield Bank(scores, KafkaSettings.from_environment().model_copy(update={"bootstrap": kafka.bootstrap}))
    scores.store.close()


@pytest.mark.slow  # looks race with what is written; tests/calibration/test_refresh.py floods without a process
def test_a_flood_of_low_scores_moves_nobody_elses_alert_rates_by_more_than_the_step(
    bank: Bank, kafka: Broker, tmp_path: Path
) -> None:
    """A flood of 30 % stretches the map, and the role applies it; one of 50 %, which would be a step more, it does not.

    Counted from the map that it had put there itself, the second step would be small enough.
    """
    random = np.random.default_rng(4)
    others = bank.aggregates(random.random(21_000))

    def flooded(share: float) -> np.ndarray:
        flood = bank.aggregates(random.uniform(0.0, 0.01, int(21_000 * share / (1.0 - share))))
        return np.asarray(random.permutation(np.concatenate([others, flood])))

    def kept() -> None:
        served = bank.target().served.apply(others)
        for threshold, rate in THRESHOLDS.items():
            assert abs(np.mean(served >= threshold) / rate - 1.0) < STEP + 0.05, threshold

    bank.tells()
    with bank.scores.counting(kafka.bootstrap, tmp_path / "log", look_s=0.5) as counting:
        bank.write(flooded(0.3), 1)
        counting.wait(lambda: bank.store.current() == 2, 120)
        counting.wait(lambda: counting.lines("refresh_applied"))
        kept()
        bank.tells()
        bank.write(flooded(0.5), 0)
        counting.wait(lambda: len(counting.lines("refresh_proposed")) == 2, 120)
        (line,) = counting.lines("refresh_proposed")[1:]
        assert "by itself at most 50%" in line["reasons"][0]
        assert counting.stop() == 0
    assert (bank.store.current(), bank.record().state) == (2, "proposed")
    kept()
    entry = bank.store.list()[-1]
    assert (entry.evidence or {})["refreshed"]["by_itself"]
