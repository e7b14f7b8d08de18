"""A report, or what a backtest found -> one HTML file.

Every text is escaped by Jinja; figures alone are taken as they are. A content security policy forbids scripts, fonts,
pictures and connections, so that even a fault in escaping could load and run nothing.
"""

from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from muse_stream.report import figures
from muse_stream.report.backtested import Backtested
from muse_stream.report.content import Report

WORDS: Mapping[str, tuple[str, str]] = {
    "kept": ("=", "keeps the promise"),
    "nears": ("+", "comes nearer to the promise"),
    "equal": ("~", "no change shown, away from the promise"),
    "moves": ("!", "would move"),
    "few": ("?", "too few events to tell"),
}
"""Word of a verdict -> its sign, so that no colour is needed, and what it says."""


def html(report: Report) -> str:
    """Return the page of a report."""
    return _environment().get_template("page.html").render(report=report)


def backtest_html(found: Backtested) -> str:
    """Return the page of a backtest."""
    return _environment().get_template("backtest.html").render(found=found)


def _environment() -> Environment:
    texts = files("muse_stream.report")
    environment = Environment(
        loader=FunctionLoader(lambda name: (texts / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "rate": _rate, "points": _points, "count": _count, "score": _score, "moment": _moment, "day": _day,
        "interval": _interval,
    }  # fmt: skip
    environment.globals |= {"figure": _figure, "words": WORDS}
    return environment


def _figure(name: str, subject: Any) -> Markup:
    return Markup(getattr(figures, name)(subject))  # noqa: S704 - drawn here, of numbers and days


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"


def _interval(rate: Any) -> str:
    return f"{100 * rate.low:.3g} to {100 * rate.high:.3g} %"


def _points(value: float) -> str:
    return f"{100 * value:+.2g}"


def _count(value: int) -> str:
    return f"{value:,}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _moment(value: datetime | None) -> str:
    return "-" if value is None else value.strftime("%Y-%m-%d %H:%M:%S UTC")


def _day(value: datetime) -> str:
    return value.strftime("%Y-%m-%d")
