"""The page of a backtest: whole in one file, nothing of the data taken for markup, and a browser loads nothing."""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from muse_stream.report import Backtested, Compared, Fact, Measured, Policy, Step, backtest_html
from tests.report.browser import opened
from tests.report.test_page import EVIL, START, Elements

SOME = [Measured(0.04, 0.01, 0.08), Measured(0.0, 0.0, 0.2)]


@pytest.fixture(scope="module")
def page() -> str:
    policies = [
        Policy("raw", SOME, [Measured(0.1), Measured(None)]),
        Policy(EVIL, SOME, [Measured(0.2), Measured(0.5, 0.4, 0.6)]),
    ]
    overall = Compared("", 900, policies, [0.01, 0.02], SOME)
    steps = [Step("2026-05-28", "2026-06-04", EVIL, 500, 5, judged) for judged in (False, True)]
    thresholds, measures = [(0.5, 0.1), (0.8, 0.05)], ["PSI", "ECE"]
    tenants, experts = [Compared(EVIL, 400, policies, [0.01, 0.02])], [(EVIL, [Measured(0.3, 0.2, 0.4)])]
    return backtest_html(
        Backtested(
            *(EVIL, START, [Fact(EVIL, EVIL)], thresholds, measures, overall, tenants, steps, ["ECE"], experts, [EVIL])
        )
    )


def test_a_browser_asks_nothing_of_a_network_and_shows_every_part(page: str, tmp_path: Path) -> None:
    file = tmp_path / "backtest.html"
    file.write_text(page, encoding="utf-8")
    document, asked = opened(file, tmp_path)
    assert asked == []
    elements = Elements(document)
    assert {tag for tag, _ in elements.found} & {"script", "img", "iframe", "object", "embed", "link", "base"} == set()
    assert len(elements.named("figure")) == len(elements.named("svg")) == 1
    assert len(elements.named("table")) == 6
    text = "".join(elements.text)
    assert EVIL in text and "(hindsight)" in text and "one class only" in text and "fitted to" in text


def test_nothing_of_the_data_becomes_markup_and_every_part_says_what_it_is(page: str) -> None:
    elements = Elements(page)
    assert {tag for tag, _ in elements.found} & {"script", "img"} == set()
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert "{{ 7 * 7 }} $x$ &amp;" in "".join(elements.text)
    assert all(one["scope"] in ("col", "row") for one in elements.named("th"))
    assert all(one["aria-label"] for one in elements.named("div") if one.get("role") == "region")
    ids = [one["id"] for _, one in elements.found if "id" in one]
    assert len(ids) == len(set(ids))
    levels = [int(tag[1]) for tag, _ in elements.found if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
