"""What happens in the synthetic world: genuine purchases and four patterns of fraud, all drifting with time.

A `World`, a stretch of days and a random generator give `Purchases`, unsorted. No loop runs over events. Every pattern
leaves a trace in some feature (amount against the customer's habit, counts per day, hour, the terminal's past), and
none in the identifiers. Drift: early on cards are skimmed and stolen; later they are tested and taken over online.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from muse_stream.demo.population import TENANTS, World, profile

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
DRIFT_DAYS = 63
"""Behaviour moves from day 0 to this day and stays."""
PATTERNS = ("genuine", "skimmed-terminal", "stolen-card", "card-testing", "takeover")
SKIMMED_DAYS = 21
POS, ECOM, ATM = range(3)


@dataclass(frozen=True, slots=True, eq=False)
class Purchases:
    """Events as arrays of equal length."""

    time_ms: NDArray[np.int64]
    """Since the start of day 0, a Monday."""
    customer: NDArray[np.int64]
    terminal: NDArray[np.int64]
    amount: NDArray[np.float64]
    pattern: NDArray[np.int8]
    """Index into PATTERNS."""

    def take(self, rows: NDArray[np.int64] | slice) -> "Purchases":
        """The given rows, in that order."""
        return Purchases(
            self.time_ms[rows], self.customer[rows], self.terminal[rows], self.amount[rows], self.pattern[rows]
        )


def joined(parts: list[Purchases]) -> Purchases:
    """All parts in one, sorted by time."""
    names = ("time_ms", "customer", "terminal", "amount", "pattern")
    whole = Purchases(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    return whole.take(np.argsort(whole.time_ms, kind="stable"))


def drift(day: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far behaviour has moved at a day: 0 at day 0, 1 from DRIFT_DAYS on."""
    return np.clip(day / DRIFT_DAYS, 0.0, 1.0)


def genuine(world: World, start: int, stop: int, random: Generator) -> Purchases:
    """Purchases of all customers on days start..stop-1."""
    customer = np.repeat(np.arange(len(world.customer_rate)), random.poisson(world.customer_rate * (stop - start)))
    tenant = world.customer_tenant[customer]
    day = _days(tenant, start, stop, random)
    moved = drift(day)
    channel = _channels(profile_channels()[tenant], moved, random)
    usual = world.favourites[customer, channel, random.integers(0, world.favourites.shape[2], len(customer))]
    elsewhere = world.any_terminal(tenant, channel, random.random(len(customer)))
    amount = world.customer_median[customer] * np.exp(
        random.normal(0.0, 1.0, len(customer)) * profile("spread")[tenant]
    )
    amount *= np.where(channel == ATM, 1.5, 1.0) * (1.0 + 0.3 * moved)
    return Purchases(
        time_ms=((day + _hours(tenant, random) / 24.0) * DAY_MS).astype(np.int64),
        customer=customer,
        terminal=np.where(random.random(len(customer)) < 0.15, elsewhere, usual),
        amount=cents(amount),
        pattern=np.zeros(len(customer), dtype=np.int8),
    )


def profile_channels() -> NDArray[np.float64]:
    """[tenants, channels] shares."""
    return np.array([tenant.channels for tenant in TENANTS])


def cents(amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Amounts as a card sees them: at least 0.01, two decimals."""
    return np.maximum(np.round(amount, 2), 0.01)


def _days(tenant: NDArray[np.int64], start: int, stop: int, random: Generator) -> NDArray[np.float64]:
    days = np.arange(start, stop)
    result = np.empty(len(tenant))
    for index, weekend in enumerate(profile("weekend")):
        rows = tenant == index
        weight = np.where(days % 7 >= 5, weekend, 1.0)
        result[rows] = random.choice(days, int(rows.sum()), p=weight / weight.sum())
    return result


def _hours(tenant: NDArray[np.int64], random: Generator) -> NDArray[np.float64]:
    night = random.random(len(tenant)) < profile("night")[tenant]
    by_day = 6.0 + np.mod(random.normal(profile("peak_hour")[tenant], 3.0) - 6.0, 18.0)
    return np.where(night, random.uniform(0.0, 6.0, len(tenant)), by_day)


def _channels(shares: NDArray[np.float64], moved: NDArray[np.float64], random: Generator) -> NDArray[np.int64]:
    # A fifth of what is bought at counters and machines moves online.
    online = shares[:, ECOM] + 0.2 * moved * (1.0 - shares[:, ECOM])
    other = (1.0 - online) / np.maximum(1.0 - shares[:, ECOM], 1e-9)
    u = random.random(len(shares))
    pos = shares[:, POS] * other
    return np.where(u < pos, POS, np.where(u < pos + online, ECOM, ATM))


def skim(world: World, purchases: Purchases, start: int, stop: int, random: Generator) -> None:
    """Turn a part of what is bought at compromised terminals into fraud, in place."""
    begin = _moments(0.55, 0.7, start - SKIMMED_DAYS, stop, random, fades=True)
    weight = np.where(world.terminal_channel == ECOM, 0.0, profile("exposure")[world.terminal_tenant])
    terminal = random.choice(len(weight), len(begin), p=weight / weight.sum())
    order = np.lexsort((purchases.time_ms, purchases.terminal))
    span = np.int64((stop + SKIMMED_DAYS + 1) * DAY_MS)
    offset = min(start - SKIMMED_DAYS, 0) * DAY_MS
    key = purchases.terminal[order] * (span - offset) + purchases.time_ms[order] - offset
    opened = terminal * (span - offset) + (begin * DAY_MS).astype(np.int64) - offset
    bounds = np.searchsorted(key, [opened, opened + SKIMMED_DAYS * DAY_MS])
    hit = np.concatenate([order[low:high] for low, high in bounds.T] or [order[:0]])
    hit = hit[random.random(len(hit)) < 0.45]
    purchases.pattern[hit] = 1
    purchases.amount[hit] = cents(purchases.amount[hit] * random.uniform(1.0, 2.5, len(hit)))


def bursts(world: World, start: int, stop: int, random: Generator) -> list[Purchases]:
    """The three patterns that add purchases: a stolen card, testing of card numbers, a takeover by night."""
    return [
        _stolen(world, start, stop, random),
        _tested(world, start, stop, random),
        _taken(world, start, stop, random),
    ]


def _stolen(world: World, start: int, stop: int, random: Generator) -> Purchases:
    begin = _moments(3.5, 0.6, start, stop, random, fades=True)
    victim, group = _victims(world, 3 + random.poisson(3.0, len(begin)), random)
    tenant = world.customer_tenant[victim]
    physical = profile_channels()[tenant] * [1.0, 0.0, 1.0]
    online = physical.sum(axis=1) == 0  # a tenant without counters
    pos = physical[:, POS] / np.where(online, 1.0, physical.sum(axis=1))
    channel = np.where(online, ECOM, np.where(random.random(len(victim)) < pos, POS, ATM))
    time = begin[group] + random.uniform(0.0, 6.0, len(victim)) / 24.0
    amount = world.customer_median[victim] * random.uniform(2.0, 8.0, len(victim))
    return _burst(world, 2, time, victim, channel, amount, random)


def _tested(world: World, start: int, stop: int, random: Generator) -> Purchases:
    begin = _moments(1.8, 0.85, start, stop, random, fades=False)
    sizes = 5 + random.poisson(4.0, len(begin))
    victim, group = _victims(world, sizes, random)
    last = np.zeros(len(victim), dtype=bool)
    last[np.cumsum(sizes) - 1] = True  # many small ones, then what the card turned out to bear
    time = begin[group] + np.where(last, 0.9, random.uniform(0.0, 0.75, len(victim))) / 24.0
    large = world.customer_median[victim] * random.uniform(4.0, 9.0, len(victim))
    amount = np.where(last, large, random.uniform(0.5, 2.5, len(victim)))
    return _burst(world, 3, time, victim, np.full(len(victim), ECOM), amount, random)


def _taken(world: World, start: int, stop: int, random: Generator) -> Purchases:
    begin = np.floor(_moments(6.0, 0.85, start, stop, random, fades=False))
    victim, group = _victims(world, 1 + random.poisson(1.5, len(begin)), random)
    time = begin[group] + random.uniform(0.2, 5.5, len(victim)) / 24.0
    amount = world.customer_median[victim] * random.uniform(2.0, 7.0, len(victim))
    return _burst(world, 4, time, victim, np.full(len(victim), ECOM), amount, random)


def _moments(
    per_day: float, change: float, start: int, stop: int, random: Generator, *, fades: bool
) -> NDArray[np.float64]:
    """Days (with fraction) at which a pattern strikes: `per_day` at its strongest, less by `change` at its weakest."""
    day = random.uniform(start, stop, random.poisson(per_day * (stop - start)))
    moved = drift(day)
    return day[random.random(len(day)) < 1.0 - change * (moved if fades else 1.0 - moved)]


def _victims(world: World, sizes: NDArray[np.int64], random: Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One customer for each burst, repeated by its size, and the burst's number for each row."""
    weight = world.customer_rate * profile("exposure")[world.customer_tenant]
    customer = random.choice(len(weight), len(sizes), p=weight / weight.sum())
    return np.repeat(customer, sizes), np.repeat(np.arange(len(sizes)), sizes)


def _burst(
    world: World,
    pattern: int,
    time: NDArray[np.float64],
    customer: NDArray[np.int64],
    channel: NDArray[np.int64],
    amount: NDArray[np.float64],
    random: Generator,
) -> Purchases:
    tenant = world.customer_tenant[customer]
    return Purchases(
        time_ms=(time * DAY_MS).astype(np.int64),
        customer=customer,
        terminal=world.any_terminal(tenant, channel, random.random(len(customer))),
        amount=cents(amount),
        pattern=np.full(len(customer), pattern, dtype=np.int8),
    )
