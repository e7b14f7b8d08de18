"""Who lives in the synthetic world: tenants, their terminals by channel, their customers and habits.

A `World` holds arrays indexed by customer and by terminal. It follows from the seed alone and holds a fixed number of
genuine events per day, so every stretch of time looks at the same people.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANNELS = ("pos", "ecom", "atm")
"""Channel names in the order of their codes."""
EVENTS_PER_DAY = 4_800
CUSTOMERS = 4_000
TERMINALS = 1_000
FAVOURITES = 4
"""Terminals of one channel that a customer returns to."""


@dataclass(frozen=True, slots=True)
class TenantProfile:
    """How the customers of one tenant behave."""

    name: str
    share: float
    """Of all events."""
    median_amount: float
    spread: float
    """Sigma of the logarithm of amounts."""
    channels: tuple[float, float, float]
    """Shares of pos, ecom, atm."""
    peak_hour: float
    night: float
    """Share of purchases between midnight and six."""
    weekend: float
    """Purchases on a weekend day, relative to a working day."""
    exposure: float
    """Fraud relative to the average tenant."""


TENANTS = (
    TenantProfile("acme", 0.38, 22.0, 0.6, (0.80, 0.15, 0.05), 17.0, 0.02, 1.3, 0.6),  # groceries
    TenantProfile("globex", 0.27, 55.0, 0.9, (0.03, 0.95, 0.02), 20.0, 0.12, 1.1, 1.3),  # online shop
    TenantProfile("initech", 0.20, 110.0, 0.5, (0.25, 0.05, 0.70), 12.0, 0.04, 0.6, 0.8),  # bank: cash
    TenantProfile("umbrella", 0.11, 260.0, 1.0, (0.45, 0.50, 0.05), 15.0, 0.08, 1.0, 1.8),  # travel
    TenantProfile("hooli", 0.04, 9.0, 0.8, (0.0, 1.0, 0.0), 21.0, 0.30, 1.5, 2.5),  # digital goods
)


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """Arrays by customer, by terminal, and by (tenant, channel)."""

    customer_tenant: NDArray[np.int64]
    customer_rate: NDArray[np.float64]
    """Purchases per day."""
    customer_median: NDArray[np.float64]
    """Typical amount."""
    favourites: NDArray[np.int64]
    """[customers, channels, FAVOURITES] terminals; -1 where the tenant has none in that channel."""
    terminal_tenant: NDArray[np.int64]
    terminal_channel: NDArray[np.int64]
    first: NDArray[np.int64]
    """[tenants, channels] first terminal; those of one tenant and channel are numbered without a gap."""
    count: NDArray[np.int64]
    """[tenants, channels] number of terminals."""

    def any_terminal(
        self, tenant: NDArray[np.int64], channel: NDArray[np.int64], u: NDArray[np.float64]
    ) -> NDArray[np.int64]:
        """Pick a terminal of each row's tenant and channel by a uniform number in [0, 1)."""
        return self.first[tenant, channel] + (u * self.count[tenant, channel]).astype(np.int64)


def profile(attribute: str) -> NDArray[np.float64]:
    """One attribute of TenantProfile over all tenants."""
    return np.array([getattr(tenant, attribute) for tenant in TENANTS], dtype=np.float64)


def build_world(seed: int) -> World:
    """Draw customers and terminals."""
    random = np.random.default_rng([seed, 0])
    wanted = TERMINALS * profile("share")[:, None] * profile("channels")
    count = np.where(wanted > 0, np.maximum(3, np.round(wanted)), 0).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(count)[:-1]]).reshape(count.shape)
    tenants, channels = np.indices(count.shape)
    tenant = np.repeat(np.arange(len(TENANTS)), np.round(CUSTOMERS * profile("share")).astype(np.int64))
    people = len(tenant)
    rate = random.gamma(2.0, 1.0, people)
    rate *= (EVENTS_PER_DAY * profile("share") / np.bincount(tenant, weights=rate))[tenant]
    picks = first[tenant][:, :, None] + (random.random((people, 3, FAVOURITES)) * count[tenant][:, :, None]).astype(int)
    return World(
        customer_tenant=tenant,
        customer_rate=rate,
        customer_median=profile("median_amount")[tenant] * np.exp(random.normal(0.0, 0.35, people)),
        favourites=np.where(count[tenant][:, :, None] > 0, picks, -1),
        terminal_tenant=np.repeat(tenants.ravel(), count.ravel()),
        terminal_channel=np.repeat(channels.ravel(), count.ravel()),
        first=first,
        count=count,
    )
