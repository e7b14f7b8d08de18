"""The page: whole in one file, nothing of the data taken for markup, and a browser loads nothing for it."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from muse_stream.calibration import Drift, GroupedRate, RateDrift
from muse_stream.report import (
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
    html,
)
from tests.report.browser import opened

EVIL = "</script><script>alert(1)</script><img src=http://192.0.2.7/x onerror=alert(2)>\"' {{ 7 * 7 }} $x$ &amp;"
START = datetime(2026, 5, 28, tzinfo=UTC)
RATE = GroupedRate(0.05, 0.04, 0.06)


def days(role: str, count: int) -> Days:
    found = [Day(START + timedelta(days=one), 100, [RATE, RATE], 0.01, 0.02) for one in range(count)]
    own = RateDrift(0.5, 0.1, 100, 0.1, 0.05, 0.15, False)
    beside = RateDrift(0.8, 0.05, 100, 0.1, 0.04, 0.15, True, 0.5)
    drift = Drift(100, (own, beside), 0.01, 0.02, psi_drifted=False, ks_drifted=False)
    return Days(EVIL, role, [0.5, 0.8], [0.1, 0.05], found, drift if role == "live" else None, 7)


@pytest.fixture(scope="module")
def report() -> Report:
    """Everything there can be, with names that nobody ought to have."""
    edges = np.linspace(0, 1, 51)
    spread = Spread(edges, np.full(50, 0.02), np.full(50, 0.02), np.linspace(0, 1, 20), np.linspace(0, 1, 20) ** 2)
    thresholds = [
        Threshold(at, 0.05, RATE, RATE, 0.01, 0.02, 3, 4, agreement, word)
        for at, agreement, word in ((0.5, 0.9, "kept"), (0.8, None, "moves"))
    ]
    curve = Calibration(EVIL, 900, 9, 0.01, *(np.array([0.0, value, 0.9]) for value in (0.01, 0.02, 0.01, 0.03)))
    changes = [Change(EVIL, START, 0.1, 0.9, (0.5, 0.8)), Change("b", START, 0.9, 0.1, (0.5,))]
    pair = Pair(
        EVIL, EVIL, 1_000, 10, 7, EVIL, 0.9, spread, thresholds, changes, 2, EVIL, "moves", [curve, curve]
    )  # fmt: skip
    constant = replace(pair, agreement=None, thresholds=[], changes=[], calibrations=[], word="few")
    tenants = [
        Tenant(EVIL, 1_000, 1_000, [pair, constant], [days("live", 3), days("shadow", 1)], [EVIL]),
        Tenant("empty", 0, 0, [], []),
    ]
    history = [
        History(2, True, START, EVIL, EVIL, 1, EVIL, "", True),
        History(1, False, None, "", "", None, "", EVIL, False),
    ]
    return Report(EVIL, START, [Fact(EVIL, EVIL)], 0.2, tenants, history, [EVIL])


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return html(report)


class Elements(HTMLParser):
    """The elements of a page, with their attributes and what text there is."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_a_drift_that_a_share_has_established_says_beside_which_threshold(report: Report) -> None:
    (said,) = re.findall(r"! drifted([^<]*)</td>", html(report))
    assert said == " (beside 0.5)"
    assert "cannot both be inside the tolerance" in html(report)


@pytest.mark.long  # test_backtest_page.py has the same of a shorter page
def test_a_browser_asks_nothing_of_a_network_and_finds_no_script(page: str, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    document, asked = opened(file, tmp_path)
    assert asked == []
    elements = Elements(document)
    assert {tag for tag, _ in elements.found} & {"script", "img", "iframe", "object", "embed", "link", "base"} == set()
    assert len(elements.named("figure")) == len(elements.named("svg")) == 7
    assert EVIL in "".join(elements.text)


def test_the_browser_test_sees_what_a_page_wants(tmp_path: Path) -> None:
    file = tmp_path / "other.html"
    file.write_text("<!DOCTYPE html><img src='http://192.0.2.7/x'>", encoding="utf-8")
    assert opened(file, tmp_path)[1] == ["http://192.0.2.7/x"]


def test_nothing_of_the_data_becomes_markup(page: str) -> None:
    elements = Elements(page)
    assert {tag for tag, _ in elements.found} & {"script", "img"} == set()
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    addresses = [one[name] for _, one in elements.found for name in ("href", "xlink:href", "src") if name in one]
    assert all((address or "").startswith("#") for address in addresses)
    assert not re.search(r"""url\((?!#)|@import""", page)
    assert "{{ 7 * 7 }} $x$ &amp;" in "".join(elements.text)
    (policy,) = (one["content"] for one in elements.named("meta") if "http-equiv" in one)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_figures_and_tables_say_what_they_are(page: str) -> None:
    elements = Elements(page)
    assert all(one["role"] == "img" and one["aria-label"] for one in elements.named("figure"))
    assert all(one["scope"] in ("col", "row") for one in elements.named("th"))
    assert all(one["aria-label"] for one in elements.named("div") if one.get("role") == "region")
    ids = [one["id"] for _, one in elements.found if "id" in one]
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'(?:href="|url\()#([\w-]+)', page)
    assert set(wanted) <= set(ids)
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_colours_are_the_page_s_own_and_follow_the_reader(page: str) -> None:
    drawn = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawn)) <= {
        "none", "var(--live)", "var(--shadow)", "var(--ink)", "var(--grid)", "var(--promise)",
    }  # fmt: skip
    assert "prefers-color-scheme: dark" in page and "@media print" in page
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w+)", one)) for one in re.findall(r":root \{.*?\}", page, re.DOTALL)[:2]
    )
    for look in (light, dark):
        for name in ("ink", "soft", "live", "shadow"):
            for ground in ("paper", "panel"):
                assert contrast(look[name], look[ground]) >= 4.5, (name, ground, look)
        assert contrast(look["promise"], look["panel"]) >= 3.0


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_a_file_has_no_history_and_no_shadow_no_comparison(report: Report) -> None:
    text = "".join(Elements(html(replace(report, history=None, tenants=[report.tenants[1]]))).text)
    assert "The configuration is a file." in text
    assert "No shadow predictor has answered events here" in text
