"""The tables at the end of a guided run.

Alert rates by tenant, what of a move the promotion caused, and whether every event was answered exactly once. Shares
are per cent of events, moves are percentage points; a table must explain itself to somebody who has read nothing else.
"""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from muse_stream.calibration import LIMIT, Move
from muse_stream.demo.comparison import Row
from muse_stream.demo.findings import Findings
from muse_stream.demo.refreshing import Refreshed
from muse_stream.demo.screen import Screen

KINDS = {"duplicated": "doubled", "both": "doubled", "out_of_order": "out of order", "missing": "missing"}
STYLES = {"kept": "bold green", "drifted": "bold yellow", "MOVED": "bold red"}
BAR = "│"
WIDE = 96
"""Columns of a terminal that shows everything."""


def show(found: Findings, screen: Screen) -> None:
    """Show everything that was found, the result last."""
    screen.title("What the promotion did to alert rates")
    wide = screen.console.width >= WIDE
    screen.show(alert_rates(found.rows, wide=wide))
    screen.note(
        "Each tenant alerts at a threshold of its own, which it never touched. before: the old model, live; after: the "
        f"new one, live. allowed: {LIMIT:g} standard errors, of both periods and of the sample the maps were fitted "
        "to, the events of one customer or terminal counted together. Without MUSE a tenant would compare the model's "
        "raw score, at the threshold where the old model's raw score raised as many alerts."
    )
    screen.title("Was it the promotion, or the stream?")
    screen.show(causes(found.rows, wide=wide))
    screen.note(
        "The same events, scored by both: the old model went on as a shadow after the promotion, so the audit topic "
        "says what it would have answered. Only the promotion's part can be blamed on the promotion."
    )
    screen.title("Was every event answered exactly once?")
    screen.show(answers(found))
    _facts(found, screen)
    if found.refreshed is not None:
        _refresh(found.refreshed, screen)
    screen.title("Verdict")
    problems = found.problems()
    for problem in problems:
        screen.line(problem, style="bold red")
    if not problems:
        screen.line(
            f"All kept in {found.seconds:.0f} s: {found.totals.sent:,} events of {len(found.rows)} tenants, each "
            "answered exactly once and in order; a model was replaced, and no alert rate moved.",
            style="bold green",
        )


def alert_rates(rows: Iterable[Row], *, wide: bool = True) -> Table:
    """Return the table of alert rates, with MUSE and without; a narrow one fits 80 columns."""
    table = _table("\ntenant", wide=wide)
    _columns(table, "alert if\nscore >=", *(["\npromised"] if wide else []))
    _columns(table, BAR, "with MUSE\nbefore", "\nafter", "\nmoved", "\nallowed")
    _columns(
        table, BAR, "no MUSE\nraw >=" if wide else "", "no MUSE\nafter" if not wide else "\nafter", "\nalerts", BAR
    )
    table.add_column("\nrate", justify="left", no_wrap=True)
    for row in rows:
        table.add_row(
            row.tenant,
            f"{row.threshold:g}",
            *([_percent(row.promised)] if wide else []),
            BAR,
            _percent(row.before),
            Text(_percent(row.after), style="bold"),
            *_move(row.total),
            BAR,
            *([Text(f"{row.bare_threshold:.3f}", style="dim")] if wide else []),
            Text(_percent(row.without), style="bold" if row.bare.kept else "red"),
            Text(f"x {row.without / max(row.before, 1e-9):.1f}", style="" if row.bare.kept else "bold red"),
            BAR,
            Text(row.verdict, style=STYLES[row.verdict]),
        )
    return table


def causes(rows: Iterable[Row], *, wide: bool = True) -> Table:
    """Return the table that parts a move into the promotion's and the stream's."""
    table = _table("\ntenant", wide=wide)
    _columns(table, "events\nafter" if wide else "")
    _columns(table, BAR, "old model\nbefore", "old model\nafter", "the stream\nmoved it")
    _columns(table, BAR, "new model\nafter", "the promotion\nmoved it", "\nallowed")
    for row in rows:
        table.add_row(
            row.tenant,
            *([f"{row.events:,}"] if wide else []),
            BAR,
            _percent(row.before),
            _percent(row.control),
            _points(row.control - row.before, "dim"),
            BAR,
            _percent(row.after),
            *_move(row.promotion),
        )
    return table


def answers(found: Findings) -> Table:
    """Return the table of what `verify` counted."""
    kinds = {"missing": "\nmissing", "doubled": "\ndoubled", "out of order": "out of\norder", "other": "\nother"}
    table = _table("\nevent topic")
    _columns(table, "\nevents", "\nscores", "dead\nletters", BAR, *kinds.values())
    for report in found.reports:
        counts = dict.fromkeys(kinds, 0)
        for finding in report.findings:
            counts[KINDS.get(finding.kind, "other")] += finding.count
        cells = [Text(f"{count:,}", style="bold red" if count else "green") for count in counts.values()]
        table.add_row(report.topic, f"{report.events:,}", f"{report.scores:,}", f"{report.dead_letters:,}", BAR, *cells)
    return table


def _refresh(found: Refreshed, screen: Screen) -> None:
    screen.title("The stream drifted: did the refreshed map keep the promise?")
    table = _table(f"{found.tenant}\nscore >=")
    _columns(table, "\npromised", BAR, "old map\ndrifted", BAR, "new map\nexpected", "\nserved")
    for one in found.rates:
        served = Text(_percent(one.after), style="bold")
        rates = _percent(one.promised), BAR, Text(_percent(one.drifted), style="yellow"), BAR, _percent(one.expected)
        table.add_row(f"{one.threshold:g}", *rates, served)
    screen.show(table)
    screen.note(
        f"{found.story}. drifted: {found.events:,} events, under the map that had kept the promise. The role calibrate "
        f"proposed a map that moves an alert rate by {found.largest_move:.0%} for whoever has not changed; a person "
        f"applied it as generation {found.generation}. served: the next {found.events_after:,} events, as they were "
        "answered."
    )


def _table(first: str, *, wide: bool = False) -> Table:
    table = Table(box=None, padding=(0, 2 if wide else 1, 0, 0), header_style="bold cyan")
    table.add_column(first, no_wrap=True)
    return table


def _columns(table: Table, *headings: str) -> None:
    """Add right-justified columns; BAR is a rule between groups, an empty heading is no column."""
    for heading in filter(None, headings):
        if heading == BAR:
            table.add_column(f"{BAR}\n{BAR}", style="dim cyan")
        else:
            table.add_column(heading, justify="right", no_wrap=True)


def _facts(found: Findings, screen: Screen) -> None:
    counts, swap = found.totals, found.promotion
    broken = f"one for each of the {counts.broken} records broken on purpose" if counts.broken else "none"
    screen.show("")
    screen.fact("dead letters", broken)
    screen.fact(
        "promotion",
        f"first new score {swap.first_score_s:.2f} s after publishing, last old one after {swap.all_scores_s:.2f} s; "
        f"longest pause between two batches of scores {1000 * swap.longest_pause_s:.0f} ms",
    )
    screen.fact("producers", f"never stopped; the latest event was sent {1000 * counts.late_s:.0f} ms late")
    screen.fact(
        "shadow",
        f"{counts.audited:,} audit records; the live score in them is the one on the topic, bit for bit, in "
        f"{counts.same_bits:,} of {counts.shadowed:,}",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _points(by: float, style: str = "") -> Text:
    return Text(f"{100 * by:+.1f}", style=style)


def _move(move: Move) -> tuple[Text, Text]:
    return _points(move.by, "bold" if move.kept else "bold red"), Text(f"± {100 * move.allowed:.1f}", style="dim")
