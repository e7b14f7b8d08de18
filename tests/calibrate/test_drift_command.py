"""`drift`, `status` and the role itself tell of a stream that has left what was promised."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from muse_stream.calibration import Arrivals, DayCounts, QuantileMap
from muse_stream.cli.main import main
from muse_stream.config import consumer_group, load_document
from muse_stream.control import DirectoryStore
from muse_stream.runtime.drift_looks import drifts
from muse_stream.runtime.drift_verdicts import keep_verdicts
from muse_stream.runtime.score_counter import TopicOffsets, offsets_name
from muse_stream.runtime.score_reader import content_of
from muse_stream.scoring import reference_from
from tests.calibrate.scores import Scores
from tests.runtime.test_batch_scorer import changed

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
Output = pytest.CaptureFixture[str]


@pytest.fixture
def scores(tmp_path: Path, unique: Callable[[str], str]) -> Scores:
    made = Scores(Path(shutil.copytree(EXAMPLE, tmp_path / "config")), unique("bank"), str(tmp_path / "store"))
    made.publish()
    return made


def count(scores: Scores, tenant: str, levels: np.ndarray, days_ago: int = 0) -> None:
    """Store a day's counts of scores at these levels (uniform: the promise is kept)."""
    loaded = load_document(scores.document)
    content = content_of(loaded.document, tenant, "cards")
    assert content is not None
    node = loaded.document.predictors["cards"].graph().nearest_map()
    assert node is not None
    fitted = loaded.fitted.maps[node.map_of(tenant) or ""]
    aggregates = np.interp(levels, fitted.levels, fitted.values)
    served = QuantileMap(fitted, reference_from(loaded.document.references[node.reference])).apply(aggregates)
    day = (datetime.now(UTC).date() - timedelta(days=days_ago)).isoformat()
    counts, rows = DayCounts(tenant, content.content, day, "cards"), np.arange(len(levels))
    arrived = (rows, aggregates, served, rows * 96 // len(rows), rows % 128, content.map_id, content.thresholds)
    counts.add([Arrivals("t/0", *arrived)])
    assert scores.store.set_durable(counts.name, counts.to_bytes(), None)


def test_drift_says_who_has_left_the_promise_and_by_how_much(scores: Scores, capsys: Output) -> None:
    random = np.random.default_rng(1)
    for days_ago in (2, 1, 0):
        count(scores, "acme", random.random(20_000), days_ago)
        count(scores, "globex", random.random(20_000) ** 0.7, days_ago)
    assert main(["drift", scores.address, "--json"]) == 1
    found = {one["tenant"]: one for one in json.loads(capsys.readouterr().out)}
    assert {name: one["state"] for name, one in found.items()} == {"acme": "kept", "globex": "drifted"}
    assert found["globex"]["events"] == 60_000
    top = found["globex"]["thresholds"][-1]
    assert top["promised"] == 0.05
    assert top["low"] < top["rate"] < top["high"]
    assert top["drifted"]
    assert main(["drift", scores.address, "--tenant", "acme"]) == 0
    assert "acme" in capsys.readouterr().out
    assert main(["drift", scores.address, "--tolerance", "5", "--psi", "9", "--ks", "1"]) == 0
    assert main(["drift", scores.address, "--tenant", "nobody"]) == 2
    assert "there is no tenant 'nobody'" in capsys.readouterr().err


def test_a_drift_that_a_share_has_established_says_beside_which_threshold(scores: Scores, capsys: Output) -> None:
    """The rate of 5 % has doubled, that of 10 % has not: all alerts at 0.6 are alerts at 0.8."""
    random = np.random.default_rng(4)
    shares = random.random(1_100)
    shares = np.where(shares <= 0.1, shares / 2, shares)
    count(scores, "globex", random.random(5_000), 1)
    count(scores, "globex", np.concatenate([random.random(1_000), 1 - shares]))
    assert main(["drift", scores.address, "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)
    assert [(one["threshold"], one["beside"]) for one in found["thresholds"] if one["drifted"]] == [(0.8, 0.6)]
    assert main(["drift", scores.address]) == 1
    said = capsys.readouterr()
    assert "drifted (beside 0.6)" in said.out
    assert "cannot both be inside the tolerance" in said.err


def test_status_tells_what_was_found_last(scores: Scores, capsys: Output) -> None:
    count(scores, "globex", np.random.default_rng(2).random(40_000) ** 0.6)
    keep_verdicts(scores.store, scores.name, drifts(scores.store), 60)
    assert main(["status", scores.address, "--json"]) == 1
    texts = [one["text"] for one in json.loads(capsys.readouterr().out)["findings"]]
    assert any(text.startswith("tenant globex, cards: the scores have left what was promised") for text in texts)


def test_counts_of_another_content_or_damaged_ones_are_not_taken_for_these(scores: Scores, capsys: Output) -> None:
    count(scores, "acme", np.random.default_rng(3).random(1_000))
    other = DayCounts("acme", "f" * 64, datetime.now(UTC).date().isoformat(), "cards")
    assert scores.store.set_durable(other.name, other.to_bytes(), None)
    (found,) = drifts(scores.store)
    assert found.drift.events == 1_000
    (name,) = [name for name in scores.store.durables("counts~acme") if name != other.name]
    assert scores.store.set_durable(name, b"rubbish", scores.store.durable(name))
    assert main(["drift", scores.address]) == 1
    assert f"{name}: no counts of a day" in capsys.readouterr().err


def test_windows_and_limits_are_those_of_the_configuration_and_a_tenant_may_have_its_own(
    scores: Scores, capsys: Output
) -> None:
    random = np.random.default_rng(1)
    for days_ago in (2, 1, 0):
        for tenant in ("acme", "globex"):
            count(scores, tenant, random.random(20_000) ** 0.7, days_ago)
    assert {one.tenant for one in drifts(scores.store) if one.drift.drifted} == {"acme", "globex"}

    def loose(document: Any) -> None:
        document["drift"] = {"tolerance": 5.0, "psi": 9.0, "ks": 1.0}
        document["tenants"]["globex"]["drift"] = {"tolerance": 0.1, "days": 1, "recent": 1}

    changed(scores.document, loose)
    scores.publish()
    found = {one.tenant: one for one in drifts(scores.store)}
    assert {name: one.state for name, one in found.items()} == {"acme": "kept", "globex": "drifted"}
    assert {name: one.drift.events for name, one in found.items()} == {"acme": 60_000, "globex": 40_000}
    assert not found["globex"].drift.psi_drifted
    assert main(["drift", scores.address, "--tenant", "acme"]) == 0
    # an option is of this look alone
    assert main(["drift", scores.address, "--tenant", "acme", "--tolerance", "0.2"]) == 1
    assert main(["drift", scores.address, "--tenant", "globex", "--tolerance", "9"]) == 0
    assert main(["drift", scores.address, "--tenant", "acme", "--tolerance", "0.2", "--false-alarm", "1e-9"]) == 1
    capsys.readouterr()
    assert main(["drift", scores.address, "--days", "3", "--recent", "4"]) == 2
    assert "4 days, and only 3 are looked at" in " ".join(capsys.readouterr().err.split())
    assert main(["drift", scores.address, "--recent", "31"]) == 1
    assert "31 days of the stability index" in capsys.readouterr().err


def test_days_without_counts_and_scores_that_were_gone_are_told(scores: Scores, capsys: Output) -> None:
    random = np.random.default_rng(1)
    for days_ago in (4, 3, 1):
        count(scores, "acme", random.random(2_000), days_ago)
    today = datetime.now(UTC).date()
    name = offsets_name(consumer_group("muse", scores.name, "calibrate"), scores.topic("scores", "acme"))
    gone = TopicOffsets(1, "id", {0: 6_000}, {(today - timedelta(days=3)).isoformat(): 1_234, "2020-01-01": 7})
    assert scores.store.set_durable(name, gone.to_bytes(), None)
    assert main(["drift", scores.address]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "nothing is counted of globex, initech, umbrella" in told
    assert f"tenant acme, cards: nothing is counted of {today - timedelta(days=2)}: no scores then, or the role" in told
    assert f"tenant acme, cards: 1,234 records were gone before they were counted ({today - timedelta(days=3)})" in told
    assert main(["drift", scores.address, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["missing_days"] == [(today - timedelta(days=2)).isoformat()]
    assert found["removed_unread"] == {(today - timedelta(days=3)).isoformat(): 1_234}


def test_where_nothing_is_counted_it_says_so(scores: Scores, tmp_path: Path, capsys: Output) -> None:
    assert main(["drift", scores.address]) == 0
    assert "nothing is counted of any map that serves" in capsys.readouterr().out
    assert main(["drift", str(DirectoryStore(tmp_path / "empty"))]) == 1
    assert "holds no generation" in capsys.readouterr().err
