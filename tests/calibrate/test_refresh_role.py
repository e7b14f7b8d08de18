"""Refresh by the role itself, from records on a broker to the generation that is current."""

import math
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


@pytest.mark.long  # four runs of the role; the next test has one, test_refresh.py what it decides
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

    def counted(name: str) -> None:
        """Have all counted that is written, without a look at half of it."""
        with bank.scores.counting(kafka.bootstrap, tmp_path / f"{name}-counted", look_s=math.inf) as counting:
            counting.wait(lambda: bank.scores.counted() == bank.scores.written, 120)
            assert counting.stop() == 0

    bank.tells()
    bank.write(flooded(0.3), 1)
    counted("first")
    with bank.scores.counting(kafka.bootstrap, tmp_path / "first", look_s=0.5) as counting:
        counting.wait(lambda: counting.lines("refresh_applied"), 120)
        assert counting.stop() == 0
    assert bank.store.current() == 2
    kept()
    bank.tells()
    bank.write(flooded(0.5), 0)
    counted("second")
    with bank.scores.counting(kafka.bootstrap, tmp_path / "second", look_s=0.5) as counting:
        counting.wait(lambda: counting.lines("refresh_proposed"), 120)
        (line,) = counting.lines("refresh_proposed")
        assert "by itself at most 50%" in line["reasons"][0]
        assert counting.stop() == 0
    assert (bank.store.current(), bank.record().state) == (2, "proposed")
    kept()
    entry = bank.store.list()[-1]
    assert (entry.evidence or {})["refreshed"]["by_itself"]


def test_counting_goes_on_while_a_refresh_is_published(bank: Bank, kafka: Broker, tmp_path: Path) -> None:
    bank.tells()
    bank.drift()
    counted, holds, held = bank.scores.counted(), tmp_path / "holds", tmp_path / "holds.at"
    holds.touch()
    with bank.scores.counting(kafka.bootstrap, tmp_path / "log", look_s=0.5, holds=holds) as counting:
        counting.wait(held.exists, 120)
        bank.scores.write(kafka.bootstrap, "acme", np.full(100, 0.01), partitions=2)
        counting.wait(lambda: bank.scores.counted()["acme", "cards"] == counted["acme", "cards"] + 100)
        assert not counting.lines("refresh_applied")
        holds.unlink()
        counting.wait(lambda: bank.store.current() == 2)
        counting.wait(lambda: counting.lines("refresh_applied"))
        assert counting.stop() == 0
