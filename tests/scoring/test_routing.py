"""Routing against a naive oracle that looks at every row, for tables, for caches and for intents beyond one integer."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.scoring import Categorical
from muse_stream.scoring.routing import NO_ROUTE, Router, Rule

ATTRIBUTES = ("tenant", "channel", "region", "use_case")
VALUES = ("a", "b", "c", "d")

conditions = st.dictionaries(st.sampled_from(ATTRIBUTES), st.frozensets(st.sampled_from(VALUES), min_size=1))
rules_lists = st.lists(conditions, max_size=6)
intents = st.lists(st.tuples(*[st.sampled_from((*VALUES, "unheard", None))] * len(ATTRIBUTES)), max_size=40)


def oracle(rules: list[Rule], intent: dict[str, str | None]) -> int:
    for number, rule in enumerate(rules):
        if all(intent[name] in allowed for name, allowed in rule.items()):
            return number
    return NO_ROUTE


@pytest.mark.parametrize("limits", [{}, {"table_limit": 0}, {"table_limit": 0, "cache_limit": 1}], ids=str)
@given(rules=rules_lists, rows=intents)
def test_agrees_with_a_rule_by_rule_look_at_every_row(
    limits: dict[str, Any], rules: list[Rule], rows: list[tuple[str | None, ...]]
) -> None:
    columns = {name: Categorical.from_strings(row[place] for row in rows) for place, name in enumerate(ATTRIBUTES)}
    router = Router(rules, **limits)
    expected = [oracle(rules, dict(zip(ATTRIBUTES, row, strict=True))) for row in rows]
    assert router.route(columns, len(rows)).tolist() == expected
    assert router.route(columns, len(rows)).tolist() == expected  # and again from the cache


def test_more_combinations_than_one_integer_can_count() -> None:
    names = [f"attribute{number}" for number in range(20)]
    rules: list[Rule] = [{name: frozenset(f"{name}-{value}" for value in range(9)) for name in names}]
    columns = {name: Categorical.from_strings([f"{name}-3", f"{name}-8", None]) for name in names}
    assert Router(rules).route(columns, 3).tolist() == [0, 0, NO_ROUTE]


def test_an_attribute_without_a_column_is_null() -> None:
    rules: list[Rule] = [{"region": frozenset({"eu"})}, {}]
    assert Router(rules).route({}, 2).tolist() == [1, 1]
    assert Router(rules[:1]).route({}, 2).tolist() == [NO_ROUTE, NO_ROUTE]


def test_duplicate_and_null_dictionary_values_are_tolerated() -> None:
    column = Categorical(("eu", None, "eu"), np.array([0, 1, 2, -1], dtype=np.int32))
    assert Router([{"region": frozenset({"eu"})}]).route({"region": column}, 4).tolist() == [0, NO_ROUTE, 0, NO_ROUTE]


def test_rules_are_evaluated_per_distinct_intent_not_per_row(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    first = Router._first

    def counted(self: Router, intent: tuple[int, ...]) -> int:
        asked.append(intent)
        return first(self, intent)

    monkeypatch.setattr(Router, "_first", counted)
    router = Router([{"tenant": frozenset({"a", "b"})}, {"channel": frozenset({"c"})}], table_limit=0)
    rows = 5000
    rng = np.random.default_rng(0)
    columns = {
        "tenant": Categorical(("a", "b", "x", "y"), rng.integers(-1, 4, rows).astype(np.int32)),
        "channel": Categorical(("c", "z"), rng.integers(-1, 2, rows).astype(np.int32)),
    }
    router.route(columns, rows)
    router.route(columns, rows)
    assert len(asked) == 6  # (a, b, anything else) x (c, anything else)


def test_the_cache_is_bounded() -> None:
    router = Router([{"tenant": frozenset(f"t{number}" for number in range(100))}], table_limit=0, cache_limit=10)
    column = Categorical.from_strings(f"t{number}" for number in range(100))
    assert router.route({"tenant": column}, 100).tolist() == [0] * 100
    assert len(router._cache) <= 10
