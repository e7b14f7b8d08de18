"""The backtest: what policies come to where the truth is known, and every kind of bad input by its name."""

import json
from collections.abc import Mapping
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from muse_stream.__main__ import main
from muse_stream.commands.backtest import backtest
from muse_stream.commands.backtest_plan import Question
from muse_stream.errors import ConfigError, MuseError

CONFIG = Path(__file__).parents[2] / "deploy" / "config"
DAY = 86_400_000
START = 1_767_225_600_000  # 2026-01-01
TENANTS = ("acme", "globex")
QUESTION = Question("label", "time", "tenant", score="score", reference="standard")


def scores(events: int = 6_000, days: float = 21.0, shift: float = 1.0, seed: int = 0) -> dict[str, Any]:
    """Scores of two tenants; from the second period on, all of them move by a factor of their odds."""
    random = np.random.default_rng(seed)
    label = random.random(events) < 0.1
    time = START + np.sort(random.integers(0, int(days * DAY), events))
    odds = np.exp(random.normal(-2.5, 1.0, events) + 2.0 * label) * np.where(time >= START + 7 * DAY, shift, 1.0)
    tenant = np.array(TENANTS)[random.integers(0, 2, events)]
    return {"time": time, "tenant": tenant, "label": label.astype(np.int64), "score": odds / (1.0 + odds)}


def written(path: Path, columns: Mapping[str, Any]) -> Path:
    if path.suffix == ".parquet":
        times = pa.array(columns["time"]).cast(pa.timestamp("ms", "UTC"))
        pq.write_table(pa.table({**columns, "time": times}), path)
    elif path.suffix == ".csv":
        rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
        path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    else:
        names = list(columns)
        rows = zip(*(np.asarray(column).tolist() for column in columns.values()), strict=True)
        path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    return path


def median(found: Any, policy: str) -> float:
    cells = found.policies[policy]["overall"]["median_errors"]
    return float(np.median([one["median_error"] for one in cells]))


def test_a_map_of_the_last_period_keeps_what_a_kept_map_loses(tmp_path: Path) -> None:
    file = written(tmp_path / "history.parquet", scores(20_000, days=35.0, shift=3.0))
    found = backtest(CONFIG / "muse.yaml", file, Question(**{**vars_of(QUESTION), "only": TENANTS}))
    assert [one.judged for one in found.periods] == [False, True, True, True, True]
    assert median(found, "kept") > 0.5
    assert median(found, "last") < 0.1
    assert median(found, "refresh") < 0.1
    assert median(found, "raw") > 0.3
    noise = [one["noise"] for one in found.hindsight["median_errors"]]
    for one, chance in zip(found.hindsight["median_errors"], noise, strict=True):
        assert one["median_error"] < 4 * chance
    overall = found.policies["last"]["overall"]
    assert overall["events"] == sum(one.events for one in found.periods[1:])
    assert set(found.policies["last"]["tenants"]) == set(TENANTS)
    assert json.loads(json.dumps(found.to_json()))["periods"][0]["judged"] is False


def vars_of(question: Question) -> dict[str, Any]:
    return {name: getattr(question, name) for name in Question.__slots__}


def asked(**change: Any) -> Question:
    return Question(**{**vars_of(QUESTION), **change})


@pytest.mark.long  # the other tests read Parquet; tests/cli/test_fit.py other kinds of files
def test_parquet_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    columns = scores(1500)
    found = [
        backtest(CONFIG / "muse.yaml", written(tmp_path / f"history{kind}", columns), QUESTION)
        for kind in (".parquet", ".csv", ".jsonl")
    ]
    assert found[0].policies == found[1].policies == found[2].policies
    assert found[0].notes == ["no events of initech, umbrella", *found[0].notes[1:]]


def test_several_predictors_are_scored_as_workers_score_them(tmp_path: Path) -> None:
    columns = {key: value for key, value in scores(1200).items() if key != "score"}
    random = np.random.default_rng(3)
    columns |= {
        "amount": random.gamma(2.0, 50.0, 1200),
        "risk": random.random(1200),
        "channel": np.array(["pos", "ecom"])[random.integers(0, 2, 1200)],
        "cross_border": random.integers(0, 2, 1200).astype(bool),
        "per_day": random.gamma(2.0, 1.0, 1200),
        "age": random.integers(18, 80, 1200).astype(float),
    }
    renamed = {"terminal.risk_7d": "risk", "customer.tx_per_day": "per_day", "customer.age": "age"}
    file = written(tmp_path / "history.parquet", columns)
    serving = [("cards", 0), ("cards-next", START + 14 * DAY)]
    found = backtest(CONFIG / "muse.yaml", file, asked(score=None, predictors=serving, columns=renamed))
    assert [one.predictor for one in found.periods] == ["cards", "cards", "cards-next"]
    assert sorted(found.experts) == sorted(
        f"{name}, {expert}, {kind}"
        for name, expert in [("cards", "cards-2026q2"), *(("cards-next", f"cards-2026{q}") for q in ("q2", "q3"))]
        for kind in ("corrected", "raw")
    )
    assert found.rejected == 0


def spoilt(name: str, row: int, value: Any) -> dict[str, Any]:
    columns = scores(400)
    column = np.asarray(columns[name], dtype=object)
    column[row] = value
    return {**columns, name: column.tolist()}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        (spoilt("label", 7, 2), "row 8: label is 2; a label is 0 or 1"),
        (spoilt("label", 7, None), "row 8: label is null"),
        (spoilt("score", 9, float("nan")), "row 10: score is NaN or null; a score lies in"),
        (spoilt("score", 9, 1.25), "row 10: score is 1.25; a score lies in"),
        (spoilt("tenant", 5, "hooli"), "row 6: tenant is 'hooli', no tenant of the configuration; there is: acme"),
        (spoilt("tenant", 5, None), "row 6: tenant is null"),
        (spoilt("time", 300, START), "row 301: time is earlier than the row before it: sort"),
        ({**scores(400), "label": np.zeros(400, dtype=np.int64)}, "label is never 1; both classes"),
        ({**scores(400), "label": np.ones(400, dtype=np.int64)}, "label is never 0; both classes"),
        ({**scores(400), "score": np.full(400, 0.25)}, "all scores of score in period 1 are the same"),
        (scores(400, days=5.0), "all events are of one period"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, columns: dict[str, Any], says: str) -> None:
    file = written(tmp_path / "history.parquet", columns)
    with pytest.raises(MuseError, match=says.replace("[", r"\[")) as refused:
        backtest(CONFIG / "muse.yaml", file, QUESTION)
    assert str(file) in str(refused.value)


def with_gap() -> dict[str, Any]:
    columns = scores(900, days=35.0)
    kept = (columns["time"] < START + 8 * DAY) | (columns["time"] > START + 20 * DAY)
    return {name: column[kept] for name, column in columns.items()}


def test_a_gap_in_a_window_is_refused_and_may_be_allowed(tmp_path: Path) -> None:
    file = written(tmp_path / "history.parquet", with_gap())
    with pytest.raises(MuseError, match=r"no events between 2026-01-0.*, more than half a period: .*--allow-gaps"):
        backtest(CONFIG / "muse.yaml", file, QUESTION)
    found = backtest(CONFIG / "muse.yaml", file, asked(allow_gaps=True))
    assert len(found.periods) == 5
    assert any("more than half a period" in note for note in found.notes)


def test_a_tenant_without_events_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "history.parquet", scores(400))
    with pytest.raises(MuseError, match="has no event of initech"):
        backtest(CONFIG / "muse.yaml", file, asked(only=("acme", "initech")))
    empty = {name: column[:0] for name, column in scores(400).items()}
    with pytest.raises(MuseError, match="has no event of"):
        backtest(CONFIG / "muse.yaml", written(tmp_path / "empty.parquet", empty), QUESTION)


def test_a_tenant_with_one_score_gets_the_pooled_map(tmp_path: Path) -> None:
    columns = scores(900)
    first = columns["time"] < START + 7 * DAY
    columns["score"] = np.where(first & (columns["tenant"] == "acme"), 0.5, columns["score"])
    found = backtest(CONFIG / "muse.yaml", written(tmp_path / "h.parquet", columns), asked(only=TENANTS))
    assert "acme had fewer than two different scores in period 1: the pooled map serves" in found.notes


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (["2026-01-01T00:00:00Z", "2026-01-02T00:00:00"], "without a zone, and others are not"),
        (["2026-01-01T00:00:00", "2026-01-02T00:00:00+01:00"], "with a zone, and others are not"),
        (["2026-01-01", "yesterday"], "'yesterday', is no time"),
        (["2026-01-01", None], "has no time"),
    ],
)
def test_times_that_say_two_things_are_refused(tmp_path: Path, times: list[str], says: str) -> None:
    rows = [{"time": time, "tenant": "acme", "label": 0, "score": 0.1} for time in times]
    file = tmp_path / "history.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(MuseError, match=says):
        backtest(CONFIG / "muse.yaml", file, QUESTION)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"thresholds": (0.8, 0.5)}, "do not rise strictly"),
        ({"thresholds": (0.5, 1.0)}, "do not rise strictly within"),
        ({"reference": "none-such"}, "no such reference"),
        ({"reference": None}, "there is none, or they keep to several"),
        ({"only": ("hooli",)}, "no tenant 'hooli'"),
        ({"score": None, "predictors": [("nobody", 0)]}, "there is no 'nobody'"),
        ({"score": None}, "several are live: cards, cautious"),
        ({"score": None, "predictors": [("cards", 0), ("cautious", 9), ("unmapped", 5)]}, "times do not rise"),
        ({"predictors": [("cards", 0)]}, "predictors as well"),
    ],
)
def test_what_is_asked_must_make_sense(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        backtest(CONFIG / "muse.yaml", written(tmp_path / "h.parquet", scores(50)), asked(**change))
    assert says in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_text("nothing")
    (tmp_path / "history.xlsx").write_text("nothing")
    plain = written(tmp_path / "plain.csv", {"time": [1], "tenant": ["acme"]})
    for name, says in [
        ("broken.parquet", "not a Parquet file"),
        ("history.xlsx", "ends in one of"),
        ("absent.csv", "no such file"),
        (plain.name, "has no column label, score; there is: time, tenant"),
    ]:
        with pytest.raises(MuseError, match=says):
            backtest(CONFIG / "muse.yaml", tmp_path / name, QUESTION)


def test_the_command_shows_tables_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copytree(CONFIG, tmp_path / "config")
    file = written(tmp_path / "history.csv", scores(900))
    words = ["backtest", str(file), "--config", str(tmp_path / "config" / "muse.yaml"), "--score", "score"]
    words += ["--label", "label", "--time", "time", "--tenant", "tenant", "--reference", "standard"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "2 periods judged" in shown
    assert "(chance alone)" in shown
    assert main([*words, "--json", "--thresholds", "0.3,0.7"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["thresholds"]) == ["0.3", "0.7"]
    report = tmp_path / "reports" / "backtest.html"
    assert main([*words, "--to", str(report)]) == 0
    written_text = report.read_text(encoding="utf-8")
    assert "Backtest of history.csv" in written_text and "Tenant globex" in written_text
    assert main([*words, "--to", str(tmp_path / "report.pdf")]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert main([*words, "--period", "a week"]) == 2
    assert "no duration" in capsys.readouterr().err
    assert main([*words, "--thresholds", "high"]) == 2
    assert "no list of numbers" in capsys.readouterr().err
    assert main([*words, "--only", "initech"]) == 1
    assert "has no event of initech" in capsys.readouterr().err


def test_ctrl_c_ends_it_cleanly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from muse_stream.commands import backtest as module  # noqa: PLC0415

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Walk, "add", interrupted)
    file = written(tmp_path / "history.csv", scores(60))
    words = ["backtest", str(file), "--config", str(CONFIG / "muse.yaml"), "--score", "score"]
    words += ["--label", "label", "--time", "time", "--tenant", "tenant", "--reference", "standard"]
    assert main(words) == 130


def test_make_backtest_says_what_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from perf import history  # noqa: PLC0415 - what makes models is an extra

    monkeypatch.setattr("sys.argv", ["history", "--events", str(tmp_path / "absent.parquet")])
    assert history.main() == 2
    assert "MUSE_BACKTEST_EVENTS=FILE make backtest" in capsys.readouterr().err
