"""A report as one HTML file: no script, no network, every figure an SVG in the page.

content     what a report says, as values
backtested  the same of a backtest
figures     the figures, by matplotlib
page        content -> HTML, by a template of Jinja that escapes whatever comes from data

Needs the extra `report`. Why these two libraries: docs/decisions/0035-reports-are-static-svg.md
"""

from muse_stream.report.backtested import Backtested, Compared, Measured, Policy, Step
from muse_stream.report.content import (
    Calibration,
    Change,
    Day,
    Days,
    Fact,
    History,
    Pair,
    Report,
    Spread,
    Tenant,
    Threshold,
)
from muse_stream.report.page import backtest_html, html

__all__ = [
    "Backtested",
    "Calibration",
    "Change",
    "Compared",
    "Day",
    "Days",
    "Fact",
    "History",
    "Measured",
    "Pair",
    "Policy",
    "Report",
    "Spread",
    "Step",
    "Tenant",
    "Threshold",
    "backtest_html",
    "html",
]
