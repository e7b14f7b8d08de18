"""Tables in documents are those that `python -m perf table` prints."""

import json
from pathlib import Path

import pytest

from muse_stream.errors import MuseError
from perf import results, tables
from perf.__main__ import ALL, SCENARIOS, Scenario, main
from perf.figures import Figures
from perf.tables import Bound, Row


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.name)
def test_documents_show_what_is_stored(document: Path) -> None:
    """When not: `python -m perf table --write`."""
    text = document.read_text(encoding="utf-8")
    assert tables.BLOCK.search(text)
    assert text == tables.filled(text)


def test_table_prints_the_readmes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table"]) == 0
    text = tables.DOCUMENTS[0].read_text(encoding="utf-8")
    printed = capsys.readouterr().out.split("\n\n")
    assert len(printed) == 2
    assert [part for part in printed if part not in text] == []


def test_the_newest_result_of_each_scenario_counts(tmp_path: Path) -> None:
    for moment, found in (("01", {"a": 1, "b": 1}), ("02", {"a": 2})):
        stored = [{"scenario": name, "figure": figure} for name, figure in found.items()]
        (tmp_path / f"{moment}.json").write_text(json.dumps({"results": stored}))
    assert {name: one["figure"] for name, one in results.newest(tmp_path).items()} == {"a": 2, "b": 1}


def test_each_result_is_stored_as_soon_as_it_is_there(tmp_path: Path) -> None:
    store = results.Store(tmp_path)
    path = store.add({"scenario": "live", "events_per_s": 1})
    assert results.newest(tmp_path)["live"]["events_per_s"] == 1
    assert store.add({"scenario": "idle", "cpu_percent": 0.3}) == path
    stored = json.loads(path.read_text())
    assert stored["machine"]["cores"]
    assert [one["scenario"] for one in stored["results"]] == ["live", "idle"]
    assert results.of_this_commit(tmp_path) == {"live", "idle"}
    path.write_text(json.dumps(stored | {"commit": "another"}))
    assert results.of_this_commit(tmp_path) == set()


def test_a_run_goes_on_where_it_was_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is missing alone; what fails is told at the end and keeps nobody else from being measured."""
    monkeypatch.setattr(results, "FOLDER", tmp_path)

    def fails(*_: object) -> Figures:
        raise MuseError("3 answers are missing")

    measured: Scenario = lambda *_: {"whole_us": 2.0}  # noqa: E731
    monkeypatch.setitem(SCENARIOS, "publish", fails)
    monkeypatch.setitem(SCENARIOS, "stages", measured)
    assert main(["run", "publish", "stages", "--save", "--resume"]) == 1
    told = capsys.readouterr()
    assert "publish: 3 answers are missing" in told.err
    assert "not measured: publish" in told.err
    assert "whole_us" in told.out
    assert main(["run", "stages", "--save", "--resume"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "stored already, left out: stages\n")


def test_rows_are_of_scenarios_that_exist() -> None:
    rows = (*tables.BOUNDED, *tables.LONGER)
    assert {row.scenario for row in rows if not row.command} <= SCENARIOS.keys()
    assert {row.scenario for row in tables.BOUNDED if not row.command} == set(ALL)


@pytest.mark.parametrize(("limit", "shown"), [(2.0, ">= 2 times"), (4.0, ">= 4 times (**missed**)")])
def test_a_missed_bound_is_said(limit: float, shown: str) -> None:
    row = Row("deep", "deep", "{ratio:.1f}", (Bound("ratio", ">=", limit, " times"),))
    assert row.line({"deep": {"ratio": 3.0}}) == f"| deep | {shown} | 3.0 | `make perf ARGS=deep` |"
    assert row.line({"deep": {}}) is None
    assert row.line({}) is None


def test_a_scenario_that_is_no_more_names_the_one_that_took_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "drain"])
    assert "scenario 'drain' is no more: take 'live'" in capsys.readouterr().err
