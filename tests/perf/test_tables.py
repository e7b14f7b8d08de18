"""Tables in documents are those that `python -m perf table` prints."""

import json
from pathlib import Path

import pytest

from perf import results, tables
from perf.__main__ import SCENARIOS, main


@pytest.mark.parametrize("document", tables.DOCUMENTS, ids=lambda path: path.name)
def test_documents_show_what_is_stored(document: Path) -> None:
    """When not: `python -m perf table --write`."""
    text = document.read_text(encoding="utf-8")
    assert tables.BLOCK.search(text)
    assert text == tables.filled(text)


def test_table_prints_the_readmes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table"]) == 0
    assert capsys.readouterr().out in tables.DOCUMENTS[0].read_text(encoding="utf-8")


def test_the_newest_result_of_each_scenario_counts(tmp_path: Path) -> None:
    for moment, found in (("01", {"a": 1, "b": 1}), ("02", {"a": 2})):
        stored = [{"scenario": name, "figure": figure} for name, figure in found.items()]
        (tmp_path / f"{moment}.json").write_text(json.dumps({"results": stored}))
    assert {name: one["figure"] for name, one in results.newest(tmp_path).items()} == {"a": 2, "b": 1}


def test_a_run_is_stored_with_what_it_ran_on(tmp_path: Path) -> None:
    path = results.save([{"scenario": "live", "events_per_s": 1}], tmp_path)
    stored = json.loads(path.read_text())
    assert stored["machine"]["cores"]
    assert stored["commit"]
    assert results.newest(tmp_path)["live"]["events_per_s"] == 1


def test_rows_are_of_scenarios_that_exist() -> None:
    assert {row.scenario for row in tables.ROWS if not row.command} <= SCENARIOS.keys()
