"""`report`: what it says of two predictors, from files and from topics, and what no report can be made of."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muse_stream import FileColumns, Fitting, fit_maps
from muse_stream.cli.main import main
from muse_stream.demo.training import ASSETS
from muse_stream.files import RecordFile
from tests.commands.records import Bank
from tests.report.test_page import Elements

Output = pytest.CaptureFixture[str]
START_MS = 1_780_000_000_000
DAY_MS = 86_400_000
EVENTS = 4_000
FORCE = ("--force", "of no matter here")
Columns = dict[str, Any]


def promised(seed: int, events: int = EVENTS) -> np.ndarray:
    """Return scores as the demo's reference promises them."""
    levels, values = [0.0, 0.30, 0.65, 0.90, 0.95, 1.0], [0.0, 0.2, 0.5, 0.6, 0.8, 1.0]
    return np.interp(np.random.default_rng(seed).random(events), levels, values)


def records(live: np.ndarray, shadow: np.ndarray, **more: Any) -> Columns:
    """Return score and audit records of the same events, as columns."""
    count = len(live)
    both = {
        "event_id": [f"e{one}" for one in range(count)] * 2,
        "predictor": ["cards-g1"] * count + ["cards-g2"] * count,
        "score": [*live.tolist(), *shadow.tolist()],
        "aggregate": np.concatenate([live, shadow]) / 10,
        "predictor_version": 1,
        "tenant": "acme",
        "live_predictor": [None] * count + ["cards-g1"] * count,
        "live_predictor_version": 1,
        "live_score": [None] * count + live.tolist(),
        "live_aggregate": [None] * count + (live / 10).tolist(),
        "generation": 1,
        "live_generation": 1,
        "event_time": (START_MS + np.linspace(0, 4 * DAY_MS, count).astype(np.int64)).tolist() * 2,
        "record": ["score"] * count + ["audit"] * count,
        "key": [f"card-{one % 500}".encode() for one in range(count)] * 2,
    }
    return {**both, **more}


def table(path: Path, columns: Columns) -> Path:
    with RecordFile(path) as file:
        batch = pa.RecordBatch.from_arrays([pa.array(columns["score"])], ["score"])
        file.write(batch, columns)
        file.finish()
    return path


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's configuration with maps, so that something is promised."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(ASSETS, folder / "config")
    path = folder / "config" / "muse.yaml"
    with_promise(path, folder)
    return path


def with_promise(path: Path, folder: Path) -> None:
    values = np.random.default_rng(7).beta(1, 20, 2_000).tolist()
    (folder / "scores.jsonl").write_text("".join(json.dumps({"p": one}) + "\n" for one in values))
    fitting = Fitting(FileColumns(scores="p"), policy="own", default=True)
    for predictor in ("cards-g1", "cards-g2"):
        fit_maps(path, predictor, folder / "scores.jsonl", tenants=["acme"], fitting=fitting).write(path)


def run(capsys: Output, *words: object) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["report", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out + said.err


def text_of(path: Path) -> str:
    return " ".join(" ".join(Elements(path.read_text(encoding="utf-8")).text).split())


@pytest.fixture(scope="module")
def good(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both keep the promise, and rank alike."""
    live = promised(1)
    return table(tmp_path_factory.mktemp("tables") / "good.parquet", records(live, np.clip(live + 0.001, 0.0, 1.0)))


@pytest.mark.long  # as below, of three files
def test_a_shadow_that_keeps_the_promise_is_told_from_one_that_moves_rates(
    config: Path, good: Path, tmp_path: Path, capsys: Output
) -> None:
    live = promised(2)
    moving = table(tmp_path / "moving.parquet", records(live, np.sqrt(live), tenant="globex"))
    few = table(tmp_path / "few.parquet", records(promised(3, 60), promised(3, 60), tenant="hooli"))
    files = [word for path in (good, moving, few) for word in ("--from", path)]
    code, said = run(capsys, config, "--to", tmp_path / "r.html", *files, "--json")
    assert code == 0, said
    told = json.loads(said[: said.rindex("}") + 1])
    assert (told["tenants"], told["events"]) == (["acme", "globex", "hooli"], 2 * EVENTS + 60)
    assert told["notes"] == ["No records of initech, umbrella."]
    text = text_of(tmp_path / "r.html")
    assert "acme cards-g1 v1 cards-g2 v1 4,000" in text
    assert "= keeps the promise at every threshold" in text
    assert "! would move alert rates away from the promise: " in text
    assert "? too few events to tell at " in text
    assert "4,000 events of 500 entities, scored by both under generation 1." in text
    assert text.count("Day by day: cards-g1 v1 (live)") == 3
    # drift is decided as `drift` decides it: of all that three tenants have, one shadow has left the promise
    assert (text.count("! Has drifted. 4,000 events"), text.count("= No drift is established.")) == (1, 5)
    # what the report says of a threshold is what the scores say
    lost = int(((np.sqrt(live) < 0.8) & (live >= 0.8)).sum())
    gained = int(((np.sqrt(live) >= 0.8) & (live < 0.8)).sum())
    rows = [row for row in text.split("would move ") if f"{gained:,} {lost:,} 100 %" in row]
    assert len(rows) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.parquet", "moving.parquet", "r.html"]


@pytest.mark.long  # seconds of matplotlib; the last test is the short one
def test_labels_add_a_calibration_curve(config: Path, good: Path, tmp_path: Path, capsys: Output) -> None:
    random = np.random.default_rng(5)
    fraud = (random.random(EVENTS) < promised(1) / 10).astype(int)
    rows = "".join(f"e{place},{label}\n" for place, label in enumerate(fraud.tolist()) if place % 2)
    (tmp_path / "labels.csv").write_text("id,is_fraud\n" + rows)
    words = ["--from", good, "--labels", tmp_path / "labels.csv", "--id", "id", "--label", "is_fraud"]
    code, said = run(capsys, config, "--to", tmp_path / "r.html", *words)
    assert code == 0, said
    text = text_of(tmp_path / "r.html")
    assert "2,000 of the events here have one" in text
    assert f"over 2,000 events with a label, {fraud[1::2].sum()} positive" in text


@pytest.mark.long  # as above
def test_what_is_odd_in_the_records_is_said(config: Path, tmp_path: Path, capsys: Output) -> None:
    live, shadow = promised(1, 600), np.full(600, 0.3)
    columns = records(live, shadow)
    columns["score"][-7:] = [None] * 7  # could not be scored
    times = np.array(columns["event_time"][:600])
    times[300:] += 20 * DAY_MS
    columns |= {"event_time": times.tolist() * 2, "generation": [1] * 900 + [2] * 300, "key": None}
    columns["live_generation"] = columns["generation"]
    code, said = run(capsys, config, "--to", tmp_path / "r.html", "--from", table(tmp_path / "a.parquet", columns))
    assert code == 0, said
    text = text_of(tmp_path / "r.html")
    assert "7 more events could not be scored by the shadow" in text
    assert "One of the two gives every event the same score, so there is no order to compare." in text
    assert "There is a gap: no scores of cards-g1 v1 for events from " in text
    assert "There is a gap: no audit records of cards-g2 v1 for events from " in text
    assert "593 events of 593 entities, scored by both under generations 1 and 2" in text


@pytest.mark.parametrize("change, expected", [
    ({"score": [0.5, 1.5]}, "score: 1.5 is no score, a number in [0, 1]"),
    ({"score": [np.nan, 0.5]}, "score: nan is no score"),
    ({"aggregate": [-0.1, 0.5]}, "aggregate: -0.1 is no score"),
    ({"record": ["score", "event"]}, "record is 'score' or 'audit', not 'event'"),
    ({"tenant": "stranger"}, "there are no records of acme, globex"),
])  # fmt: skip
def test_records_that_are_none_are_refused(
    config: Path, tmp_path: Path, capsys: Output, change: Columns, expected: str
) -> None:
    path = table(tmp_path / "bad.parquet", records(np.array([0.5]), np.array([0.4]), **change))
    code, said = run(capsys, config, "--to", tmp_path / "r.html", "--from", path)
    assert (code, expected in " ".join(said.split())) == (2, True), said
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize("name, words, expected", [
    ("x", ["--to", "r.txt"], "r.txt: the name of a report ends in .html"),
    ("x", ["--to", "folder.html"], "folder.html: is a folder"),
    ("x", ["--to", "r.html", "--from", "none.parquet"], "none.parquet: no such file"),
    ("x", ["--to", "r.html", "--from", "other.parquet"], "other.parquet: has no column aggregate"),
    ("x", ["--to", "r.html", "--from", "unzoned.parquet"], "event_time has no time zone"),
    ("x", ["--to", "r.html", "--from", "GOOD", "--tenant", "nobody"], "there is no tenant 'nobody'"),
    ("x", ["--to", "r.html", "--from", "GOOD", "--tenant", "hooli"], "there are no records of hooli; the files have"),
    ("x", ["--to", "r.html", "--from", "GOOD", "--since", "7d"], "a window belongs to topics"),
    ("e0,1\ne1,2\n", ["--to", "r.html", "--from", "GOOD"], "row 3: label 2 is not 0 or 1"),
    ("e0,1\ne1,\n", ["--to", "r.html", "--from", "GOOD"], "row 3: label None is not 0 or 1"),
    ("e0,1\ne1,1\n", ["--to", "r.html", "--from", "GOOD"], "all 2 labels are 1"),
    ("e0,1\ne0,0\n", ["--to", "r.html", "--from", "GOOD"], "row 3: event 'e0' has another label in a row before"),
    ("f0,1\nf1,0\n", ["--to", "r.html", "--from", "GOOD"], "none of its 2 ids is an event of this report"),
])  # fmt: skip
def test_what_no_report_can_be_made_of_is_said(
    config: Path, good: Path, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, name: str,
    words: list[str], expected: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    pq.write_table(pa.table({"tenant": ["acme"]}), "other.parquet")
    plain = pq.read_table(good).slice(0, 3)
    place = plain.column_names.index("event_time")
    pq.write_table(
        plain.set_column(place, "event_time", plain["event_time"].cast(pa.timestamp("ms"))), "unzoned.parquet"
    )
    labels = []
    if name != "x":
        (tmp_path / "labels.csv").write_text("event_id,label\n" + name)
        labels = ["--labels", "labels.csv"]
    code, said = run(capsys, config, *(str(good) if word == "GOOD" else word for word in words), *labels)
    unreadable = "no such" in expected or "no column" in expected
    assert (code, expected in " ".join(said.split())) == (1 if unreadable else 2, True), said
    assert not list(tmp_path.glob("r.*"))


def test_topics_and_the_history_of_the_store_make_a_report(filled: Bank, tmp_path: Path, capsys: Output) -> None:
    with_promise(filled.file, tmp_path)
    assert (
        main(["publish", str(filled.file), str(tmp_path / "store"), "--message", "<b>maps</b>", "--yes", *FORCE]) == 0
    )
    code, said = run(capsys, tmp_path / "store", "--to", tmp_path / "r.html", "--tenant", "acme")
    assert code == 0, said
    text = text_of(tmp_path / "r.html")
    assert "5 scores and 5 audit records." in text
    assert "4 events of 1 entities, scored by both under generations 2 and 3" in text
    assert "acme-1 2026-05-28 20:26:40 UTC 0.1 0.95 up over 0.2, 0.5, 0.6, 0.8" in text
    assert "<b>maps</b>" in text and "current" in text
    code, said = run(capsys, tmp_path / "store", "--to", tmp_path / "n.html", "--since", "1d", "--tenant", "umbrella")
    assert (code, "there are no records of umbrella" in said) == (2, True), said
