"""`drift`, `status` and the role itself tell of a stream that has left what was promised."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from muse_stream.calibration import Arrivals, DayCounts, QuantileMap
from muse_stream.cli.main import main
from muse_stream.config import load_document
from muse_stream.control import DirectoryStore
from muse_stream.runtime.drift_looks import drifts, keep_verdicts
from muse_stream.runtime.score_reader import content_of
from muse_stream.scoring import reference_from
from tests.calibrate.scores import Scores

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


def test_where_nothing_is_counted_it_says_so(scores: Scores, tmp_path: Path, capsys: Output) -> None:
    assert main(["drift", scores.address]) == 0
    assert "nothing is counted of any map that serves" in capsys.readouterr().out
    assert main(["drift", str(DirectoryStore(tmp_path / "empty"))]) == 1
    assert "holds no generation" in capsys.readouterr().err
