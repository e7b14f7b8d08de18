"""A synthetic multi-tenant card stream: five tenants, three channels, four fraud patterns, drift.

How many events, from which day on, and a seed give columns by name (numpy arrays of equal length), sorted by time.
Everything follows from the seed and the day. The world (customers, terminals) and its rate of events per day are fixed,
so features mean the same in any stretch of time; behaviour drifts from day 0 to DRIFT_DAYS and stays put from then on:
a model trained early is stale later, and what is streamed after the drift is one stationary population (but for its
weekly rhythm: compare whole weeks).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.demo.population import CHANNELS, EVENTS_PER_DAY, TENANTS, World, build_world
from muse_stream.demo.purchases import DAY_MS, DRIFT_DAYS, HOUR_MS, PATTERNS, Purchases, bursts, genuine, joined, skim
from muse_stream.demo.windows import HISTORY_DAYS, WINDOW_DAYS, customer_windows, terminal_windows

EPOCH_MS = 1_767_571_200_000
"""Start of day 0: Monday, 2026-01-05, 00:00 UTC."""

FEATURES = (
    "amount",
    "night",
    "weekend",
    *(f"customer_{kind}_{days}d" for days in WINDOW_DAYS for kind in ("nb_tx", "avg_amount")),
    *(f"terminal_{kind}_{days}d" for days in WINDOW_DAYS for kind in ("nb_tx", "risk")),
    "channel",
)
"""What models are trained on, in this order; `channel` through CHANNEL_CODES."""

CHANNEL_CODES = {name: code for code, name in enumerate(CHANNELS)}
"""The category table of `channel`."""

__all__ = [
    "CHANNEL_CODES",
    "DRIFT_DAYS",
    "EPOCH_MS",
    "EVENTS_PER_DAY",
    "FEATURES",
    "TENANTS",
    "feature_table",
    "generate",
]

Columns = dict[str, NDArray[Any]]


def generate(events: int = 200_000, *, first_day: int = 0, seed: int = 2026) -> Columns:
    """Make `events` events from `first_day` on (about EVENTS_PER_DAY a day, sorted by time).

    Columns: transaction_id (str, unique over all calls of one seed that start on different days), event_time (int64,
    ms since the epoch), tenant, channel (str), customer_id, terminal_id (int64), the features but channel (float64,
    int64, bool), label (int64, 1 is fraud), pattern (str; it gives the label away and is for analysis only).
    """
    if events < 1:
        raise ValueError(f"events must be at least 1, not {events}")
    world = build_world(seed)
    random = np.random.default_rng([seed, 1, first_day])
    start, stop = first_day - HISTORY_DAYS, first_day + events // EVENTS_PER_DAY + 2
    regular = genuine(world, start, stop, random)
    skim(world, regular, start, stop, random)
    purchases = joined([regular, *bursts(world, start, stop, random)])
    inside = np.searchsorted(purchases.time_ms, first_day * DAY_MS)
    return _columns(world, purchases, slice(int(inside), int(inside) + events), first_day)


def feature_table(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """FEATURES as float64 columns, the channel by its code: what a model is trained on and a golden row holds."""
    codes = np.select([columns["channel"] == name for name in CHANNELS], list(CHANNEL_CODES.values()))
    return {
        name: codes.astype(np.float64) if name == "channel" else columns[name].astype(np.float64) for name in FEATURES
    }


def _columns(world: World, purchases: Purchases, rows: slice, first_day: int) -> Columns:
    fraud = purchases.pattern > 0
    windows = customer_windows(purchases.customer, purchases.time_ms, purchases.amount)
    windows |= terminal_windows(purchases.terminal, purchases.time_ms, fraud)
    kept = purchases.take(rows)
    hour, day = kept.time_ms % DAY_MS // HOUR_MS, kept.time_ms // DAY_MS
    number = np.arange(1, len(kept.time_ms) + 1)
    return {
        "transaction_id": np.char.add(f"d{first_day}-", np.char.zfill(number.astype(np.str_), 8)),
        "event_time": kept.time_ms + EPOCH_MS,
        "tenant": np.array([tenant.name for tenant in TENANTS])[world.terminal_tenant[kept.terminal]],
        "channel": np.array(CHANNELS)[world.terminal_channel[kept.terminal]],
        "customer_id": kept.customer,
        "terminal_id": kept.terminal,
        "amount": kept.amount,
        "night": hour < 6,
        "weekend": day % 7 >= 5,
        **{name: values[rows] for name, values in windows.items()},
        "label": fraud[rows].astype(np.int64),
        "pattern": np.array(PATTERNS)[kept.pattern],
    }
