"""Promotion as a change of routes: the routing afterwards, and that the text keeps everything else."""

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.config.promotion import Promotion, conditions, live_shares, promote
from muse_stream.config.source import parse
from muse_stream.errors import ConfigError
from tests.config.example_config import FILE, TEXT, changed, load_text

EXAMPLES = 30

PREDICTORS = ("old", "new", "a-b", "true")
VALUES = {"tenant": ("acme", "globex", "t3"), "channel": ("web", "pos", "5411"), "region": ("pt", "null", "x y")}
UNNAMED = "something else"
HEAD = """\
version: 1
predictors: {old: {}, new: {}, a-b: {}, "true": {}}
events: {e: {intent: {channel: {}, region: {}}}}
"""
TAIL = """\
tenants: {acme: {}, globex: {}, t3: {}}  # who
"""

Rule = dict[str, Any]


def tree_of(text: str) -> Any:
    return parse(Path("muse.yaml"), text.encode()).tree


def answer(rules: list[Rule], intent: dict[str, str]) -> tuple[Any, dict[str, float]] | None:
    """What answers an intent, and which shadows score it: the first rule whose conditions all hold."""
    for rule in rules:
        if all(intent[name] in values for name, values in conditions(rule).items()):
            shadows = [one if isinstance(one, dict) else {"predictor": one} for one in rule.get("shadow") or []]
            return live_shares(rule["live"]), {one["predictor"]: one.get("sample", 1.0) for one in shadows}
    return None


def every_intent() -> list[dict[str, str]]:
    choices = [(*VALUES["tenant"],), (*VALUES["channel"], UNNAMED), (*VALUES["region"], UNNAMED)]
    return [dict(zip(VALUES, chosen, strict=True)) for chosen in product(*choices)]


def holds(when: dict[str, list[str]], intent: dict[str, str]) -> bool:
    return all(intent[name] in values for name, values in when.items())


@st.composite
def conditions_(draw: st.DrawFn) -> dict[str, list[str]]:
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), unique=True, max_size=3))
    return {name: draw(st.lists(st.sampled_from(VALUES[name]), unique=True, min_size=1, max_size=3)) for name in names}


@st.composite
def rules_(draw: st.DrawFn) -> Rule:
    lives = draw(st.lists(st.sampled_from(PREDICTORS), unique=True, min_size=1, max_size=2))
    live: Any = lives[0] if len(lives) == 1 else {lives[0]: 0.9, lives[1]: 0.1}
    free = [name for name in PREDICTORS if [name] != lives]
    shadows = draw(st.lists(st.sampled_from(free), unique=True, max_size=3))
    entries = [{"predictor": name, "sample": 0.25} if draw(st.booleans()) else name for name in shadows]
    return {"when": draw(conditions_()), "live": live, "shadow": entries}


def quoted(value: Any, style: str) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(k, style)}: {quoted(v, style)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(quoted(v, style) for v in value) + "]"
    return str(value) if isinstance(value, float) else f"{style}{value}{style}"


def block_of(
    draw: st.DrawFn,
    name: str,
    value: Any,
    quote: str,
    mark: str,
    anchored: list[tuple[str, str]],
    comment: Callable[[str], str],
) -> list[str]:
    """One key of a rule, in one of the ways to write it."""
    text = quoted(value, quote)
    same = [known for known, said in anchored if said == text]
    aliased: bool = draw(st.booleans())
    if same and aliased:
        return [f"{name}: *{same[0]}{comment('   ')}"]
    if draw(st.integers(0, 3)) == 0:
        anchored.append((f"{mark}{name}", text))
        return [f"{name}: &{mark}{name} {text}{comment('   ')}"]
    if isinstance(value, str) or draw(st.booleans()):
        return [f"{name}: {text}{comment('  ')}"]
    if isinstance(value, list):
        return [f"{name}:{comment('  ')}", *(f"  - {quoted(entry, quote)}{comment('     ')}" for entry in value)]
    pairs = [f"  {quoted(key, quote)}: {quoted(entry, quote)}{comment('  ')}" for key, entry in value.items()]
    return [f"{name}:{comment('  ')}", *pairs]


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A document with rules in every layout that people use, and its comments."""
    rules = draw(st.lists(rules_(), min_size=1, max_size=4))
    count = 0

    def comment(margin: str = "") -> str:
        nonlocal count
        if not draw(st.booleans()):
            return ""
        count += 1
        return f"{margin}# comment-{count}: it is {{so}}, - live: x"

    margin = draw(st.sampled_from(["", "  ", "    "]))
    lines = [f"routes:{comment(' ')}"]
    if draw(st.booleans()):
        one_line = ", ".join(quoted({k: v for k, v in rule.items() if v}, '"') for rule in rules)
        lines = [f"routes: [{one_line}]{comment(' ')}"]
        rules = []
    anchored: list[tuple[str, str]] = []
    for number, rule in enumerate(rules):
        quote = draw(st.sampled_from(["'", '"']))
        above = comment(margin)
        lines += [above] if above else []
        if draw(st.integers(0, 3)) == 0:
            lines.append(f"{margin}- {quoted({k: v for k, v in rule.items() if v}, quote)}{comment('  ')}")
            continue
        names: list[str] = [*draw(st.permutations(["when", "live", "shadow"]))]
        parts = [
            line
            for name in names
            if rule[name]
            for line in block_of(draw, name, rule[name], quote, f"x{number}", anchored, comment)
        ]
        lines.append(f"{margin}- {parts[0]}")
        lines += [f"{margin}  {part}" for part in parts[1:]]
        if draw(st.booleans()):
            lines.append("")
    end = draw(st.sampled_from(["\n", "\r\n"]))
    text = HEAD + "\n".join(lines) + "\n" + TAIL
    return text.replace("\n", end), re.findall("comment-[0-9]+:", text)


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents(), st.sampled_from(PREDICTORS), conditions_())
def test_the_candidate_is_live_exactly_where_the_condition_holds(
    document: tuple[str, list[str]], candidate: str, when: dict[str, list[str]]
) -> None:
    text, comments = document
    done = promote(text, candidate, when)
    before, after = tree_of(text)["routes"], tree_of(done.text)["routes"]
    for intent in every_intent():
        was, now = answer(before, intent), answer(after, intent)
        if was is None or not holds(when, intent):
            assert now == was
            continue
        assert now is not None
        assert now[0] == {candidate: 1.0}
        shadows = {name: sample for name, sample in was[1].items() if name != candidate}
        assert set(now[1]) == set(shadows) | set(was[0]) - {candidate}
        assert {name: now[1][name] for name in shadows} == shadows
    assert [word for word in comments if done.text.count(word) != 1] == []
    assert promote(done.text, candidate, when) == Promotion(done.text, ())
    lines = set(done.text.splitlines())
    assert HEAD.splitlines() == done.text.splitlines()[:3]
    assert TAIL.strip() in lines


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents(), st.sampled_from(PREDICTORS), conditions_())
def test_the_way_back_restores_the_routing(
    document: tuple[str, list[str]], candidate: str, when: dict[str, list[str]]
) -> None:
    text, comments = document
    done = promote(text, candidate, when)
    was = {name for one in done.replaced for name in one.live} - {candidate}
    if len(was) != 1 or any(len(one.live) > 1 for one in done.replaced):
        return  # several predictors gave way: each has its own way back
    (old,) = was
    lived = [rule for rule in tree_of(text)["routes"] if candidate in live_shares(rule["live"])]
    back = promote(done.text, old, when, replacing=candidate)
    before, after = tree_of(text)["routes"], tree_of(back.text)["routes"]
    if not lived:  # where it was live before, it is not told from where it became live
        for intent in every_intent():
            once, again = answer(before, intent), answer(after, intent)
            assert (once and once[0]) == (again and again[0])
    assert [word for word in comments if back.text.count(word) != 1] == []


@settings(max_examples=EXAMPLES, deadline=None)
@given(documents(), st.sampled_from(PREDICTORS))
def test_without_a_condition_it_is_promoted_where_it_is_a_shadow(
    document: tuple[str, list[str]], candidate: str
) -> None:
    text, _ = document
    before = tree_of(text)["routes"]
    after = tree_of(promote(text, candidate).text)["routes"]
    for intent in every_intent():
        was, now = answer(before, intent), answer(after, intent)
        if was is None or not (candidate in was[0] or candidate in was[1]):
            assert now == was
        else:
            assert now is not None
            assert now[0] == {candidate: 1.0}


def lines_changed(before: str, after: str) -> tuple[list[str], list[str]]:
    old, new = before.splitlines(), after.splitlines()
    return [line for line in old if line not in new], [line for line in new if line not in old]


def test_a_promotion_of_the_example_changes_names_alone() -> None:
    done = promote(TEXT, "cards-next")
    gone, come = lines_changed(TEXT, done.text)
    assert [re.sub(r"\s+", " ", line).strip() for line in gone] == [
        "live: cards",
        "- cards-next # short for all events",
        "- live: cards # no `when`: everything else",
        "shadow: [cards-next]",
    ]
    assert [re.sub(r"\s+", " ", line).strip() for line in come] == [
        "live: cards-next",
        "- cards # short for all events",
        "- live: cards-next # no `when`: everything else",
        "shadow: [cards]",
    ]
    assert {line.index("#") for line in come if "#" in line} == {line.index("#") for line in gone if "#" in line}
    load_text(done.text)
    assert promote(done.text, "cards", replacing="cards-next").text == TEXT


def test_a_rule_that_is_wider_than_the_condition_is_split_and_joined_again() -> None:
    done = promote(TEXT, "cards-next", {"tenant": ["acme"], "channel": ["ecom"]})
    gone, come = lines_changed(TEXT, done.text)
    assert gone == []
    assert [line.strip() for line in come] == [
        "- when: {tenant: acme, channel: ecom}",
        "live: cards-next",
        "shadow: [{predictor: blended, sample: 0.25}, cards]",
    ]
    load_text(done.text)
    assert promote(done.text, "cards", {"tenant": ["acme"], "channel": ["ecom"]}, replacing="cards-next").text == TEXT


def test_a_rule_that_another_one_is_merged_with_is_refused() -> None:
    text = changed(
        ("  - live: cards    ", "  - &last\n    live: cards    "),
        ("shadow: [cards-next]", "shadow: [cards-next]\n  - {<<: *last, when: {region: br}}"),
    )
    with pytest.raises(ConfigError, match="<<: \\*last"):
        promote(text, "cards-next", {})


def test_a_merged_rule_gets_keys_of_its_own() -> None:
    text = changed(
        ("  - when: {region: [br, mx]}\n", "  - &second\n    when: {region: [br, mx]}\n"),
        ("  - live: cards    ", "  - {<<: *second, when: {channel: atm}}\n  - live: cards    "),
    )
    done = promote(text, "blended", {"channel": ["atm"]}, replacing="cautious")
    live = [rule["live"] for rule in tree_of(done.text)["routes"] if conditions(rule).get("channel") == ("atm",)]
    assert live == ["blended", "blended"]


@pytest.mark.parametrize(
    ("candidate", "when", "says"),
    [
        ("cards-nxt", {}, "there is no predictor 'cards-nxt'.*cards-next"),
        ("cards-next", {"chanel": ["ecom"]}, "there is no intent attribute 'chanel'.*channel"),
        ("cards-next", {"tenant": ["acmee"]}, "there is no tenant 'acmee'.*acme"),
    ],
)
def test_unknown_names_are_refused(candidate: str, when: dict[str, list[str]], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        promote(TEXT, candidate, when, name=FILE.name)


@pytest.mark.parametrize(
    "first", ["- {live: cards, shadow: [blended]}  # why", "- {live: &x cards, shadow: [blended]}"]
)
def test_a_needless_rule_that_something_hangs_on_stays(first: str) -> None:
    head, _, tail = TEXT.partition("routes:\n")
    text = f"{head}routes:\n  {first}\n  - {{live: blended, shadow: [cards]}}\n{tail[tail.index('tenants:') - 1 :]}"
    done = promote(text, "blended", {})
    assert [rule["live"] for rule in tree_of(done.text)["routes"]] == ["blended", "blended"]
    assert ("# why" in done.text) == ("# why" in text)
