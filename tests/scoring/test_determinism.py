"""Invariant: the same event under the same generation gives the same bits, in any batch, in either role."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from numpy.typing import NDArray

from muse_stream.scoring import Categorical
from muse_stream.scoring.scores import Scored
from muse_stream.scoring.snapshot import Snapshot
from tests.scoring.doubles import POISON, Poisoned, document, loaded, part, snapshot, table

ROWS = 120
ROUTES: list[dict[str, object]] = [
    {"when": {"tenant": "acme"}, "live": "two", "shadow": ["one", {"predictor": "three", "sample": 0.4}]},
    {"when": {"channel": ["ecom", "atm"], "region": "eu"}, "live": "three", "shadow": ["meta"]},
    {"when": {"tenant": ["globex", "initech"]}, "live": "one", "shadow": ["two", "meta"]},
]
SPEC = document(ROUTES)
AMOUNT = np.random.default_rng(4).normal(size=ROWS)
AMOUNT[::9] = POISON
AGE = np.where(np.arange(ROWS) % 17 == 0, np.nan, 40.0)
BATCH = table(ROWS, amount=AMOUNT, age=AGE)
Answer = dict[int, tuple[Any, ...]]


def special(role: Any) -> Snapshot:
    return snapshot(SPEC, loaded(SPEC, c=Poisoned("c", {"x": 2})), role)


LIVE, SHADOW = special("live"), special("shadow")


def by_event(scored: Scored, rows: NDArray[np.int64]) -> tuple[Answer, dict[tuple[str, int], tuple[Any, ...]]]:
    """Return everything said about each event, floats as bytes, under its row in the whole batch."""
    live: Answer = {int(rows[one.row]): (one.reason, one.message) for one in scored.rejected}
    shadow: dict[tuple[str, int], tuple[Any, ...]] = {}
    for answers, part_of in [(scored.live, "live"), (scored.shadow, "shadow")]:
        for one in answers:
            columns = [
                one.score,
                one.aggregate,
                *(column for expert in one.experts for column in (expert.raw, expert.corrected)),
            ]
            for place, row in enumerate(one.rows.tolist()):
                said = (
                    one.predictor,
                    one.version,
                    one.errors.get(row),
                    *(column[place].tobytes() for column in columns),
                )
                if part_of == "live":
                    assert int(rows[row]) not in live
                    live[int(rows[row])] = said
                else:
                    shadow[one.predictor, int(rows[row])] = said
    return live, shadow


ALL = np.arange(ROWS)
WHOLE_LIVE, WHOLE_SHADOW = by_event(SHADOW.execute(BATCH), ALL)


def test_the_batch_of_this_test_meets_every_fate() -> None:
    reasons = {str(said[0]) for said in WHOLE_LIVE.values()}
    assert {"one", "two", "three", "missing-feature", "scoring-error", "no-route"} <= reasons
    assert len(WHOLE_LIVE) == ROWS
    assert {name for name, _ in WHOLE_SHADOW} == {"one", "two", "three", "meta"}
    assert any(said[2] for said in WHOLE_SHADOW.values())


def test_both_roles_give_the_same_live_bits() -> None:
    live, shadow = by_event(LIVE.execute(BATCH), ALL)
    assert live == WHOLE_LIVE
    assert shadow == {}


@given(st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=ROWS, unique=True))
def test_any_rows_in_any_order_give_the_same_bits(rows: list[int]) -> None:
    chosen = np.array(rows)
    for made in (LIVE, SHADOW):
        live, shadow = by_event(made.execute(part(BATCH, chosen)), chosen)
        assert live == {row: WHOLE_LIVE[row] for row in rows}
        if made is SHADOW:
            assert shadow == {key: said for key, said in WHOLE_SHADOW.items() if key[1] in set(rows)}


@given(st.lists(st.integers(1, ROWS - 1), max_size=12, unique=True))
def test_any_split_into_batches_gives_the_same_bits(cuts: list[int]) -> None:
    joined: Answer = {}
    for rows in np.split(ALL, sorted(cuts)):
        joined |= by_event(LIVE.execute(part(BATCH, rows)), rows)[0]
    assert joined == WHOLE_LIVE


@pytest.mark.parametrize("row", range(0, ROWS, 7))
def test_an_event_alone_gives_the_same_bits(row: int) -> None:
    rows = np.array([row])
    assert by_event(LIVE.execute(part(BATCH, rows)), rows)[0] == {row: WHOLE_LIVE[row]}


def test_the_rest_of_the_generation_does_not_matter() -> None:
    alone = document([{"when": one["when"], "live": one["live"]} for one in ROUTES])
    made = snapshot(alone, loaded(alone, c=Poisoned("c", {"x": 2})), "shadow")
    assert by_event(made.execute(BATCH), ALL)[0] == WHOLE_LIVE


MANY = 40
FEW_ROWS = {
    f"p{number:02}": {
        "version": 1 + number,
        "experts": [{"model": "ac"[number % 2], "beta": 0.1}],
        "quantile_map": {"reference": ("standard", "smooth")[number % 2]},
    }
    for number in range(MANY)
}
"""Each answers a few rows of a batch, so that their maps are run together."""


def test_predictors_with_a_few_rows_each_give_the_bits_that_each_gives_alone() -> None:
    words = tuple(f"w{number:02}" for number in range(MANY))
    rules = [{"when": {"channel": word}, "live": name} for word, name in zip(words, FEW_ROWS, strict=True)]
    rows = np.arange(3 * MANY)
    plain = table(len(rows), age=np.full(len(rows), 40.0))
    codes = np.random.default_rng(6).integers(0, MANY, len(rows)).astype(np.int32)
    batch = replace(plain, intent={"channel": Categorical(words, codes)})
    made = snapshot(document(rules, predictors=FEW_ROWS))
    together, _ = by_event(made.execute(batch), rows)
    assert {said[0] for said in together.values()} == {list(FEW_ROWS)[code] for code in codes}
    assert len({said[3] for said in together.values()}) > MANY  # the others are those below a first knot
    for row in rows.tolist():
        alone, _ = by_event(made.execute(part(batch, rows[row : row + 1])), rows[row : row + 1])
        assert alone == {row: together[row]}
