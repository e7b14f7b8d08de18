"""What differs inside of a predictor is told in words: which correction, which expert, which aggregation."""

import re

import pytest

from muse_stream.commands.difference import differences
from tests.config.example_config import TEXT, changed, load_text

MAPS = re.compile(r"    quantile_map: \{.*\n")
NODE = "      mapped: {quantile_map: {input: both, reference: smooth, default: blend-pooled}}\n"
BASE = MAPS.sub("", TEXT).replace(NODE, "").replace("clip: {input: mapped", "clip: {input: both")
"""Without maps: they are pinned to what is changed here."""
CARDS = "experts: [{model: cards-2026q2, beta: 0.1}]\n"
PRIOR = "      now: {prior_correction: {input: both, trained: 0.01, prior: 0.02, tenants: {globex: 0.005}}}\n"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (CARDS, "experts: [{model: cards-2026q2, beta: 0.3}]\n", "correction of cards-2026q2: beta 0.1 -> 0.3"),
        (CARDS, "experts: [{model: cards-2026q2}]\n", "correction of cards-2026q2: beta 0.1 -> none"),
        (
            CARDS,
            "experts: [{model: cards-2026q3, beta: 0.1}]\n",
            "expert cards-2026q3 new; correction of cards-2026q3: beta none -> 0.1; expert cards-2026q2 gone; "
            "correction of cards-2026q2: beta 0.1 -> none",
        ),
        ("aggregate: max\n", "aggregate: median\n", "aggregation max -> median"),
        (
            "weights: [1, 2]",
            "weights: [1, 4]",
            "aggregation mean of weights 1, 2 -> mean of weights 1, 4",
        ),
        ("input: settled, beta: 0.1}", "input: settled, beta: 0.4}", "correction of cards-2026q2: beta 0.1 -> 0.4"),
        ("low: 0.001", "low: 0.002", "bounds 0.001 to 0.999 -> 0.002 to 0.999"),
        (
            "      score: {clip: {input: both",
            f"{PRIOR}      score: {{clip: {{input: now",
            "share of positives of both: none -> 0.02, globex 0.005 (trained 0.01)",
        ),
    ],
)
def test_what_is_inside(old: str, new: str, says: str) -> None:
    assert [
        str(one).partition("same version; ")[2] for one in differences(load_text(BASE), load_text(after(old, new)))
    ] == [says]


def after(old: str, new: str) -> str:
    return changed((old, new), text=BASE)


def test_a_new_version_says_what_is_new_about_it() -> None:
    edits = (
        (CARDS, "experts: [{model: cards-2026q2, beta: 0.3}]\n"),
        ("cards:\n    version: 3", "cards:\n    version: 4"),
    )
    (found,) = differences(load_text(BASE), load_text(changed(*edits, text=BASE)))
    assert str(found) == "predictor cards: version 3 -> 4; correction of cards-2026q2: beta 0.1 -> 0.3"


def test_another_namespace_is_told() -> None:
    """Workers that run refuse it: who publishes it is to know, and is asked."""
    (found,) = differences(load_text(TEXT), load_text(changed(("namespace: muse", "namespace: bank"))))[:1]
    assert str(found) == "namespace: muse -> bank: other consumer groups; workers that run refuse it"
