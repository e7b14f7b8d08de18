"""The synthetic stream: reproducible, five tenants that differ, four patterns that leave traces, drift that ends."""

import time
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from muse_stream.demo.generator import (
    CHANNEL_CODES,
    DRIFT_DAYS,
    EPOCH_MS,
    EVENTS_PER_DAY,
    FEATURES,
    TENANTS,
    feature_table,
    generate,
)
from muse_stream.demo.windows import DAY_MS, DELAY_DAYS, WINDOW_DAYS, customer_windows, terminal_windows

Columns = dict[str, NDArray[Any]]
SETTLED = 70
"""A Monday after the drift."""


@pytest.fixture(scope="module")
def early() -> Columns:
    return generate(28 * EVENTS_PER_DAY, first_day=0)


@pytest.fixture(scope="module")
def late() -> Columns:
    return generate(28 * EVENTS_PER_DAY, first_day=SETTLED)


def test_the_seed_and_the_day_decide_everything() -> None:
    first, again = generate(5_000, first_day=3, seed=9), generate(5_000, first_day=3, seed=9)
    other = generate(5_000, first_day=3, seed=10)
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["amount"], other["amount"])


def test_columns_have_one_length_and_the_promised_types(late: Columns) -> None:
    assert {len(column) for column in late.values()} == {28 * EVENTS_PER_DAY}
    assert {name: late[name].dtype.kind for name in ("transaction_id", "event_time", "tenant", "channel", "label")} == {
        "transaction_id": "U",
        "event_time": "i",
        "tenant": "U",
        "channel": "U",
        "label": "i",
    }
    assert set(FEATURES) <= set(late)
    assert len(FEATURES) == 16
    for name in FEATURES[:-1]:
        assert np.isfinite(late[name].astype(float)).all(), name


def test_ids_are_unique_over_all_stretches(early: Columns, late: Columns) -> None:
    ids = np.concatenate([early["transaction_id"], late["transaction_id"]])
    assert len(np.unique(ids)) == len(ids)


def test_events_come_in_order_at_the_worlds_rate(late: Columns) -> None:
    times = late["event_time"]
    assert (np.diff(times) >= 0).all()
    assert 0 <= times[0] - (EPOCH_MS + SETTLED * DAY_MS) < 600_000
    assert (times[-1] - times[0]) / DAY_MS == pytest.approx(28, abs=1.0)


def test_night_and_weekend_follow_from_the_time(late: Columns) -> None:
    when = late["event_time"].astype("datetime64[ms]")
    day = when.astype("datetime64[D]")
    assert np.array_equal(late["night"], (when - day) < np.timedelta64(6, "h"))
    assert np.array_equal(late["weekend"], ~np.is_busday(day))


def test_tenants_differ_visibly(late: Columns) -> None:
    rows = {tenant.name: late["tenant"] == tenant.name for tenant in TENANTS}
    assert len(rows) >= 4
    for tenant in TENANTS:
        assert rows[tenant.name].mean() == pytest.approx(tenant.share, rel=0.1)
    medians = sorted(float(np.median(late["amount"][mask])) for mask in rows.values())
    assert all(larger > 1.3 * smaller for smaller, larger in pairwise(medians))
    main_channel = {
        name: max(CHANNEL_CODES, key=lambda c: (late["channel"][mask] == c).sum()) for name, mask in rows.items()
    }
    assert set(main_channel.values()) == set(CHANNEL_CODES)
    fraud = [late["label"][mask].mean() for mask in rows.values()]
    assert max(fraud) > 2 * min(fraud) > 0
    nights = [late["night"][mask].mean() for mask in rows.values()]
    assert max(nights) > 5 * min(nights)


def test_every_pattern_is_there_and_leaves_its_trace(late: Columns) -> None:
    habit = late["amount"] / late["customer_avg_amount_30d"]
    rows = {name: late["pattern"] == name for name in np.unique(late["pattern"])}
    assert np.array_equal(late["label"] == 1, ~rows["genuine"])
    assert 0.005 < late["label"].mean() < 0.02
    assert min(mask.sum() for mask in rows.values()) > 50
    assert late["terminal_risk_30d"][rows["skimmed-terminal"]].mean() > 4 * late["terminal_risk_30d"].mean()
    assert np.median(habit[rows["stolen-card"]]) > 2
    assert late["customer_nb_tx_1d"][rows["stolen-card"]].mean() > 1.3 * late["customer_nb_tx_1d"].mean()
    assert np.median(late["amount"][rows["card-testing"]]) < 2.5
    assert (late["channel"][rows["card-testing"]] == "ecom").all()
    assert late["night"][rows["takeover"]].all()
    assert np.median(habit[rows["takeover"]]) > 1.5


def test_behaviour_drifts_and_then_stays(early: Columns, late: Columns) -> None:
    def facts(columns: Columns) -> tuple[float, float]:
        return float(np.median(columns["amount"])), float((columns["channel"] == "ecom").mean())

    later = generate(28 * EVENTS_PER_DAY, first_day=SETTLED + 28)
    assert SETTLED > DRIFT_DAYS
    assert facts(later) == pytest.approx(facts(late), rel=0.03)
    assert facts(late)[0] > 1.1 * facts(early)[0]
    assert facts(late)[1] > 1.1 * facts(early)[1]

    def online_frauds(columns: Columns) -> float:
        return float(np.isin(columns["pattern"], ["card-testing", "takeover"]).sum() / columns["label"].sum())

    assert online_frauds(late) > 1.5 * online_frauds(early)


def test_the_first_events_have_a_full_past(late: Columns) -> None:
    # Without history before the first day, counts would start at one and grow.
    start, middle = slice(0, 5_000), slice(60_000, 65_000)
    for name in ("customer_nb_tx_30d", "terminal_nb_tx_30d"):
        assert late[name][start].mean() == pytest.approx(late[name][middle].mean(), rel=0.2)


def test_two_hundred_thousand_events_take_seconds() -> None:
    before = time.process_time()
    assert len(generate(200_000, first_day=SETTLED)["label"]) == 200_000
    assert time.process_time() - before < 10


@pytest.mark.parametrize("events", [0, -1])
def test_a_stream_has_events(events: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        generate(events)


def test_one_event_is_a_stream() -> None:
    assert {len(column) for column in generate(1).values()} == {1}


def test_the_feature_table_is_numbers_in_order(late: Columns) -> None:
    table = feature_table(late)
    assert tuple(table) == FEATURES
    assert {column.dtype for column in table.values()} == {np.dtype(np.float64)}
    assert np.array_equal(table["channel"], [CHANNEL_CODES[name] for name in late["channel"]])


@pytest.mark.parametrize("seed", range(4))
def test_windows_are_what_the_handbook_says(seed: int) -> None:
    """Against the definition, row by row, with equal times and empty windows among the cases."""
    random = np.random.default_rng(seed)
    rows = 300
    key = random.integers(0, 6, rows)
    when = np.sort(random.integers(0, 50 * 24, rows)) * (DAY_MS // 24)  # whole hours: ties happen
    amount, fraud = np.round(random.uniform(1, 100, rows), 2), random.random(rows) < 0.2
    customer, terminal = customer_windows(key, when, amount), terminal_windows(key, when, fraud)
    for row in range(rows):
        mine = key == key[row]
        for days in WINDOW_DAYS:
            seen = mine & (when <= when[row]) & (when > when[row] - days * DAY_MS)
            assert customer[f"customer_nb_tx_{days}d"][row] == seen.sum()
            assert customer[f"customer_avg_amount_{days}d"][row] == pytest.approx(amount[seen].mean(), abs=1e-3)
            end = when[row] - DELAY_DAYS * DAY_MS
            known = mine & (when <= end) & (when > end - days * DAY_MS)
            assert terminal[f"terminal_nb_tx_{days}d"][row] == known.sum()
            assert terminal[f"terminal_risk_{days}d"][row] == pytest.approx(fraud[known].mean() if known.any() else 0.0)
