"""`fit --from sketches`: maps of what was counted, on the same evidence as of events."""

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from muse_stream import Fit, FitError, Fitting, fit_maps
from muse_stream.calibration import Arrivals, DayCounts, FittedMap, QuantileMap
from muse_stream.cli.main import main
from muse_stream.config import consumer_group, load_document, pre_map_hash
from muse_stream.control import open_store
from muse_stream.runtime.score_counter import TopicOffsets, offsets_name
from tests.calibrate.scores import Scores

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
Output = pytest.CaptureFixture[str]
RATES = {0.2: 0.70, 0.5: 0.35, 0.6: 0.10, 0.8: 0.05}


@pytest.fixture
def scores(tmp_path: Path, unique: Callable[[str], str]) -> Scores:
    made = Scores(Path(shutil.copytree(EXAMPLE, tmp_path / "config")), unique("bank"), str(tmp_path / "store"))
    made.publish()
    return made


def day(days_ago: int) -> str:
    return (datetime.now(UTC).date() - timedelta(days=days_ago)).isoformat()


def sample(seed: int, events: int = 20_000) -> np.ndarray:
    return np.random.default_rng(seed).beta(1, 20, events)


def count(scores: Scores, tenant: str, values: np.ndarray, days_ago: int, content: str = "") -> None:
    """Store a day's counts of values before the map."""
    content = content or pre_map_hash(load_document(scores.document).document, "cards")
    counts, rows = DayCounts(tenant, content, day(days_ago), "cards"), np.arange(len(values))
    arrived = rows, values, values, rows * 96 // len(rows), rows % 128, "m", tuple(RATES)
    counts.add([Arrivals("t/0", *arrived)])
    assert scores.store.set_durable(counts.name, counts.to_bytes(), None)


def fitted(scores: Scores, tenants: list[str] | None = None, **how: object) -> Fit:
    return fit_maps(scores.document, "cards", "sketches", tenants=tenants, fitting=Fitting(**how), store=scores.address)  # type: ignore[arg-type]


def test_a_map_of_counted_days_is_that_of_their_events_with_its_evidence(scores: Scores, capsys: Output) -> None:
    values = [sample(1), sample(2), sample(3)]
    for days_ago, one in enumerate(values):
        count(scores, "acme", one, days_ago)
    count(scores, "globex", sample(4, 300), 0)
    found = fitted(scores)
    acme = found.tenants["acme"]
    assert (acme.policy, acme.events, found.fitted_for) == ("own", 60_000, acme.map.fitted_for)
    assert [one.threshold for one in acme.trust] == list(RATES)
    assert all(one.low < one.promised < one.high and one.needed > 60_000 for one in acme.trust)
    exact = FittedMap.fit(np.concatenate(values), found.promise)
    served = [QuantileMap(one, found.promise).apply(np.concatenate(values)) for one in (acme.map, exact)]
    for at in RATES:
        assert np.mean(served[0] >= at) == pytest.approx(np.mean(served[1] >= at), rel=0.02)
    said = found.to_json()["tenants"]
    assert said["acme"]["first"] == f"{day(2)}T00:00:00+00:00"
    assert any("too little evidence at threshold 0.8" in line for line in found.tenants["globex"].warnings())
    words = ["fit", str(scores.document), "cards", "--from", "sketches", "--store", scores.address]
    assert main([*words, "--dry-run"]) == 0
    assert "60000" in capsys.readouterr().out.replace(",", "")
    assert main([*words, "--tenant", "acme", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tenants"]["acme"]["events"] == 60_000
    published = load_document(open_store(scores.address).open(2).path)
    new = published.fitted.maps["cards-acme"]  # merging draws random numbers: not the same bits
    assert (new.samples, new.fitted_for, new.fitted_on) == (60_000, found.fitted_for, ("acme",))


def test_whole_days_count_that_begin_within_the_window(scores: Scores, tmp_path: Path) -> None:
    for days_ago in range(4):
        count(scores, "acme", sample(days_ago, 1_000 * (days_ago + 1)), days_ago)
    begins = datetime.fromisoformat(day(2)).replace(tzinfo=UTC).timestamp() * 1000

    def events(**window: float) -> int:
        return fitted(scores, ["acme"], **window).tenants["acme"].events

    assert events() == 10_000
    assert events(since_ms=begins) == 6_000
    assert events(since_ms=begins + 1) == 3_000
    assert events(since_ms=begins, until_ms=begins + 1) == 3_000
    words = ["fit", str(scores.document), "cards", "--from", "sketches", "--store", scores.address, "--since", "60h"]
    written = tmp_path / "config" / "muse.yaml"
    assert main([*words, "--write", str(written), "--yes"]) == 0
    assert load_document(written).fitted.maps["cards-acme"].samples in (3_000, 6_000)  # by the hour of the day


def test_a_window_with_a_gap_is_refused_unless_it_is_meant(scores: Scores) -> None:
    for days_ago in (5, 4, 1):
        count(scores, "acme", sample(days_ago), days_ago)
    with pytest.raises(FitError, match=f"acme: the window has a gap: nothing is counted of {day(3)}, {day(2)}, betw"):
        fitted(scores)
    assert fitted(scores, gaps=True).tenants["acme"].events == 60_000
    whole = datetime.fromisoformat(day(1)).replace(tzinfo=UTC).timestamp() * 1000
    assert fitted(scores, since_ms=whole).tenants["acme"].events == 20_000
    name = offsets_name(consumer_group("muse", scores.name, "calibrate"), scores.topic("scores", "acme"))
    gone = TopicOffsets(1, "id", {0: 6_000}, {day(1): 1_234})
    assert scores.store.set_durable(name, gone.to_bytes(), None)
    with pytest.raises(FitError, match="a gap: 1,234 records were gone before they were counted"):
        fitted(scores, since_ms=whole)
    assert fitted(scores, since_ms=whole, gaps=True).tenants["acme"].events == 20_000


def test_what_nothing_can_be_fitted_to_is_said(scores: Scores, capsys: Output) -> None:
    with pytest.raises(
        FitError, match=r"nothing is counted of acme, globex.* `muse-stream run --role calibrate` counts"
    ):
        fitted(scores)
    count(scores, "acme", sample(1), 0, content="f" * 64)
    with pytest.raises(FitError, match=f"another content of it: .*f{{12}}... .on {day(0)}"):
        fitted(scores)
    count(scores, "globex", np.full(500, 0.25), 0)
    with pytest.raises(FitError, match=r"tenant globex: all 500 scores are 0\.25"):
        fitted(scores)
    with pytest.raises(FitError, match="a shrinkage map needs events in their order"):
        fitted(scores, policy="shrinkage")
    with pytest.raises(FitError, match="sketches are in a store"):
        fit_maps(scores.document, "cards", "sketches")
    words = ["fit", scores.address, "cards", "--from", "sketches"]
    for more, said in ((["--entity", "card"], "columns belong to a file"), (["--beta", "a=0.1"], "nothing is counted")):
        assert main([*words, *more]) == 2
        assert said in " ".join(capsys.readouterr().err.split())
    damaged = next(iter(scores.store.durables("counts~globex")))
    assert scores.store.set_durable(damaged, b"rubbish", scores.store.durable(damaged))
    assert main(words) == 1
    assert f"{damaged}: no counts of a day" in capsys.readouterr().err


def test_a_map_of_all_tenants_together_is_fitted_as_well(scores: Scores) -> None:
    count(scores, "acme", sample(1), 0)
    count(scores, "globex", sample(2, 5_000), 0)
    found = fitted(scores, ["acme"], default=True)
    assert found.default is not None
    assert (found.default.samples, found.default.fitted_on) == (25_000, ("acme", "globex"))
    assert found.tenants["acme"].events == 20_000
