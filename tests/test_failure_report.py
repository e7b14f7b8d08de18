"""What is shown beside a failed test."""

from functools import partial
from pathlib import Path

import pytest

from tests import failure_report


def test_the_ends_of_logs_are_shown_as_long_as_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_report, "_SOURCES", [])
    log, over = tmp_path / "log", [False]
    log.write_text("\n".join(f"line {number}" for number in range(500)) + "\nfilling\n", encoding="utf-8")
    failure_report.on_failure("log", partial(failure_report.tail, log, leave_out="filling"), lambda: over[0])
    failure_report.on_failure("gone", partial(failure_report.tail, tmp_path / "none"))
    (title, text), (_, gone) = failure_report.sections()
    assert title == "end of log"
    assert text.splitlines()[-1] == "line 499"
    assert len(text.splitlines()) == failure_report.LAST
    assert "cannot be read" in gone
    failure_report.forget()
    assert len(failure_report.sections()) == 1, "a later test may fail for it"
    over[0] = True
    failure_report.forget()
    assert failure_report.sections() == []
