"""A report as one HTML file: no script, no network, every figure an SVG in the page.

content    what a report says, as values
figures    the figures, by matplotlib
page       content -> HTML, by a template of Jinja that escapes whatever comes from data

Needs the extra `report`. Why these two libraries: docs/decisions/0035-reports-are-static-svg.md
"""

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
from muse_stream.report.page import html

__all__ = [
    "Calibration",
    "Change",
    "Day",
    "Days",
    "Fact",
    "History",
    "Pair",
    "Report",
    "Spread",
    "Tenant",
    "Threshold",
    "html",
]
