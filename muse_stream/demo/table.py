"""The tables at the end of a guided run.

In: `Findings`. Out: rich tables: alert rates by tenant, and whether every event was answered exactly once.
Law: percentages are of events, moves are in percentage points; a table must explain itself to somebody who has read
nothing else.
"""

from collections.abc import Iterable

from rich.table import Table
from rich.text import Text

from muse_stream.demo.comparison import Row
from muse_stream.demo.findings import Findings
from muse_stream.demo.promise import LIMIT
from muse_stream.demo.screen import Screen

KINDS = {"missing": "missing", "duplicated": "doubled", "both": "doubled", "out_of_order": "out of order"}
STYLES = {"kept": "green", "drifted": "yellow", "MOVED": "bold red"}


def show(found: Findings, screen: Screen) -> None:
    """Show everything that was found, the verdict last."""
    screen.title("Alert rates at each tenant's own threshold, which nobody touched")
    screen.show(alert_rates(found.rows))
    _explain(found, screen)
    screen.title("Every event answered exactly once?")
    screen.show(answers(found))
    _promotion(found, screen)
    problems = found.problems()
    screen.title("Verdict")
    for problem in problems:
        screen.line(problem, style="bold red")
    if not problems:
        total = found.totals
        screen.line(
            f"Kept: {total.sent:,} events of {len(found.rows)} tenants, each answered exactly once and in order; "
            f"no alert rate moved. {found.seconds:.0f} s.",
            style="bold green",
        )


def alert_rates(rows: Iterable[Row]) -> Table:
    """Return the table of alert rates."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", collapse_padding=True)
    table.add_column("tenant\n")
    for heading in (
        "alert if\nscore >=",
        "promised\n",
        "before\nold model",
        "after\nwith MUSE",
        "moved\n(allowed)",
        "same events,\nold model",
        "by promotion\n(allowed)",
        "after, without MUSE\nraw score >=",
        "\n",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.tenant,
            f"{row.threshold:g}",
            _percent(row.promised),
            _percent(row.before),
            Text(_percent(row.after), style="bold"),
            _moved(row.total.by, row.total.allowed),
            _percent(row.control),
            _moved(row.promotion.by, row.promotion.allowed),
            Text.assemble((f"{row.bare_threshold:.3f}  ", "dim"), (_percent(row.without), _bare_style(row))),
            Text(row.verdict, style=STYLES[row.verdict]),
        )
    return table


def answers(found: Findings) -> Table:
    """Return the table of what `verify` counted."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("event topic")
    names = ("events", "scores", "dead letters", "missing", "doubled", "out of order", "other")
    for name in names:
        table.add_column(name, justify="right")
    for report in found.reports:
        counts = dict.fromkeys(("missing", "doubled", "out of order", "other"), 0)
        for finding in report.findings:
            counts[KINDS.get(finding.kind, "other")] += finding.count
        cells = [Text(f"{count:,}", style="bold red" if count else "green") for count in counts.values()]
        table.add_row(report.topic, f"{report.events:,}", f"{report.scores:,}", f"{report.dead_letters:,}", *cells)
    return table


def _explain(found: Findings, screen: Screen) -> None:
    screen.show("")
    screen.line(
        "before / after: live scores of the old and of the new model, either side of the promotion.", style="dim"
    )
    screen.line(
        f"allowed: {LIMIT:g} standard errors: sampling of both periods and of the calibration sample, events of one "
        "customer or terminal counted together.",
        style="dim",
    )
    screen.line(
        "same events, old model: what it says, from the audit topic, of the events of `after`: what no promotion would "
        "have given.",
        style="dim",
    )
    screen.line(
        "without MUSE: the new model's raw score against the threshold at which the old model's raw score raised as "
        "many alerts.",
        style="dim",
    )


def _promotion(found: Findings, screen: Screen) -> None:
    counts, swap = found.totals, found.promotion
    screen.show("")
    screen.fact(
        "promotion",
        f"first new score {swap.first_score_s:.2f} s after publishing, last old score after "
        f"{swap.all_scores_s:.2f} s; longest pause between two batches of scores {swap.longest_pause_s:.2f} s",
    )
    screen.fact("producers", f"never stopped; the latest event was sent {1000 * counts.late_s:.0f} ms behind schedule")
    screen.fact("dead letters", f"{counts.dead_letters}, one for each of the {counts.broken} records broken on purpose")
    screen.fact(
        "shadow",
        f"{counts.audited:,} audit records; {counts.same_bits:,} of {counts.shadowed:,} repeat the "
        "live score bit for bit",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _moved(by: float, allowed: float) -> Text:
    return Text.assemble((f"{100 * by:+.1f}", "bold"), (f" (±{100 * allowed:.1f})", "dim"))


def _bare_style(row: Row) -> str:
    return "bold red" if not row.bare.kept else "bold"
