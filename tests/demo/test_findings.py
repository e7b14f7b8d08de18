"""What is said at the end: the same facts for people, for machines and for the exit code."""

import io
import json
from dataclasses import replace

from rich.console import Console

from muse_stream.calibration.alert_rates import Move
from muse_stream.demo import table
from muse_stream.demo.comparison import Row
from muse_stream.demo.findings import Findings, Promotion, Totals
from muse_stream.demo.guarded import Guarded
from muse_stream.demo.refreshing import Rate, Refreshed
from muse_stream.demo.screen import Look, Screen
from muse_stream.errors import Problem
from muse_stream.verify.compare import Finding
from muse_stream.verify.verification import Report

ROW = Row(
    tenant="acme",
    threshold=0.8,
    promised=0.05,
    events=12_800,
    before=0.052,
    after=0.056,
    control=0.058,
    total=Move(0.004, 0.004),
    promotion=Move(-0.002, 0.003),
    bare_threshold=0.065,
    without=0.156,
    bare=Move(0.104, 0.006),
    drifts=False,
)
REPORT = Report("muse.events.acme", ("acme",), 1_005, 1_000, 5, (), ())
GUARDED = Guarded((Problem("tenants.acme", "no map", ""),), (), ())
TOTALS = Totals(1_005, 5, 1_000, 2_000, 5, 900, 900, 0, 0.05)


def findings(row: Row = ROW, report: Report = REPORT, totals: Totals = TOTALS, code: int = 0) -> Findings:
    swap = Promotion(4, 0.5, 0.6, 0.02)
    return Findings("a stream", "local JVM", 60.0, [row], swap, totals, [report], {"live": code, "shadow": 0}, GUARDED)


def screen(width: int = 118) -> tuple[Screen, io.StringIO]:
    text = io.StringIO()
    shown = Screen(Console(file=text, width=width, highlight=False))
    shown.console.width = width
    return shown, text


def test_a_good_run_has_no_problem() -> None:
    assert findings().problems() == []
    assert findings().to_json()["ok"] is True


def test_an_event_missing_doubled_or_out_of_order_is_a_problem() -> None:
    for kind in ("missing", "duplicated", "both", "out_of_order"):
        report = replace(REPORT, findings=(Finding(kind, 3, ("muse.events.acme[0]@17",)),))
        (problem,) = findings(report=report).problems()
        assert problem == f"muse.events.acme: 3 {kind.replace('_', ' ')} (muse.events.acme[0]@17)"


def test_a_rate_that_moved_is_a_problem_that_says_by_how_much() -> None:
    (problem,) = findings(replace(ROW, total=Move(0.02, 0.004))).problems()
    assert problem == ("acme: the alert rate at 0.8 moved by +2.00 points, 1.60 are within its sampling error")
    (problem,) = findings(replace(ROW, promotion=Move(-0.03, 0.004), drifts=True)).problems()
    assert "-3.00 points" in problem


def test_a_refresh_that_does_not_keep_the_promise_is_a_problem_and_is_shown() -> None:
    rate = Rate(0.8, promised=0.05, drifted=0.075, expected=0.05, after=0.053)
    kept = Refreshed("acme", "amounts have risen", 9_000, 8_000, 2, 0.4, [rate], {"live": 0, "calibrate": 0})
    assert replace(findings(), refreshed=kept).problems() == []
    shown, text = screen()
    table.show(replace(findings(), refreshed=kept), shown)
    assert "amounts have risen" in text.getvalue()
    assert "7.5 %" in text.getvalue()
    moved = replace(kept, rates=[replace(rate, after=0.08)], exit_codes={"live": 0, "calibrate": 1})
    assert replace(findings(), refreshed=moved).problems() == [
        "acme: the alert rate at 0.8 is 8.00 % after the refresh, and 5.00 % was promised",
        "the calibrate workers ended with code 1",
    ]


def test_raw_scores_would_have_failed_the_same_test() -> None:
    assert not ROW.bare.kept
    assert findings(replace(ROW, total=ROW.bare)).problems()


def test_a_known_drift_is_shown_and_is_no_problem() -> None:
    row = replace(ROW, total=Move(0.02, 0.004), drifts=True)
    assert row.verdict == "drifted"
    assert findings(row).problems() == []


def test_every_count_must_agree() -> None:
    assert findings(totals=replace(TOTALS, sent=1_006)).problems() == ["1,006 events were sent, the topics hold 1,005"]
    assert findings(totals=replace(TOTALS, broken=4)).problems() == [
        "5 dead letters for 4 records that were broken on purpose"
    ]
    assert findings(totals=replace(TOTALS, same_bits=899)).problems() == [
        "1 audit records give another live score than the topic"
    ]
    assert findings(totals=replace(TOTALS, strangers=2)).problems() == ["2 answers to events that were never sent"]
    assert findings(code=1).problems() == ["the live workers ended with code 1"]


def test_machines_get_the_same_facts() -> None:
    facts = json.loads(json.dumps(findings().to_json()))
    (rate,) = facts["alert_rates"]
    assert rate["tenant"] == "acme" and rate["verdict"] == "kept"
    assert rate["bare"]["kept"] is False and rate["bare"]["z"] > 17
    assert facts["verify"][0]["ok"] is True
    assert facts["totals"]["sent"] == 1_005
    assert facts["promotion"]["first_score_s"] == 0.5


def test_the_tables_show_rates_moves_and_verdicts() -> None:
    shown, text = screen()
    table.show(findings(), shown)
    lines = text.getvalue().splitlines()
    rates, cause = (" ".join(line.split()) for line in lines if line.startswith("acme"))
    assert rates == "acme 0.8 5.0 % │ 5.2 % 5.6 % +0.4 ± 1.6 │ 0.065 15.6 % x 3.0 │ kept"
    assert cause == "acme 12,800 │ 5.2 % 5.8 % +0.6 │ 5.6 % -0.2 ± 1.2"
    assert any(" ".join(line.split()) == "muse.events.acme 1,005 1,000 5 │ 0 0 0 0" for line in lines)
    assert "no alert rate moved" in text.getvalue()


def test_the_tables_fit_eighty_columns() -> None:
    shown, text = screen(80)
    shown.show(table.alert_rates([ROW], wide=False))
    shown.show(table.causes([ROW], wide=False))
    shown.show(table.answers(findings()))
    assert "…" not in text.getvalue()
    assert max(map(len, text.getvalue().splitlines())) <= 80


def test_a_failure_is_told_in_the_end() -> None:
    shown, text = screen()
    table.show(findings(replace(ROW, promotion=Move(0.05, 0.001), after=0.1)), shown)
    assert "MOVED" in text.getvalue()
    assert "no alert rate moved" not in text.getvalue()
    assert "acme: the alert rate at 0.8 moved by +5.00 points" in text.getvalue()


def test_nothing_that_is_shown_is_taken_for_markup() -> None:
    shown, text = screen()
    shown.line("[bold]tenant[/bold] [/] \\[")
    shown.fact("[red]x", "[/]")
    shown.step(1, "[x]", "[/x]")
    shown.title("[/] title")
    with shown.live():
        shown.reading("[/nothing]", 0.5)
        shown.look(Look(10, 5, 1.0, 0, 1, 0.5))
    assert "[bold]tenant[/bold] [/] \\[" in text.getvalue()
    assert "[red]x" in text.getvalue() and "1  [x]" in text.getvalue() and "[/] title" in text.getvalue()
