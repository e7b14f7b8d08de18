"""What a guided run is about, whoever brings the events: the synthetic stream or somebody's own file.

Made by `synthetic_scenario` or `transactions_scenario`; read by the stages: a base configuration, the events to stream,
what is known about each of them, and how long each generation serves. An event is known by its row, its place in the
stream; whatever is measured of it is an array over rows. Nothing per event is a Python object but the bytes that are on
their way.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

OLD, NEW = "cards-g1", "cards-g2"
"""The predictor in service and its retrained successor, as every demo's configuration names them."""
BARE_OLD, BARE_NEW = "bare-g1", "bare-g2"
"""The same experts without MUSE: neither correction nor map. They shadow, so that the table can show what tenants were
spared."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamEvents:
    """What is known about the events of the stream; every array is `[rows]`, in the order of the stream."""

    tenants: tuple[str, ...]
    tenant: NDArray[np.int32]
    """Index into `tenants`."""
    ids: NDArray[np.bytes_]
    """Empty for a record that is broken on purpose: it must become a dead letter."""
    time_ms: NDArray[np.int64]
    """Event time since 1970."""
    entities: tuple[NDArray[np.int64], ...]
    """For each kind (customer, terminal), whose event it is, as a code."""

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, tenant: str) -> NDArray[np.int64]:
        """Return the rows of one tenant, ascending."""
        return np.flatnonzero(self.tenant == self.tenants.index(tenant))


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """Some events in order, as they go to Kafka."""

    tenant: NDArray[np.int32]
    values: list[bytes]
    """Framed Avro."""
    keys: list[bytes]


@dataclass(frozen=True, slots=True, eq=False)
class Later:
    """Events of one tenant whose stream has changed, in order of time."""

    tenant: str
    story: str
    """What has changed."""
    values: list[bytes]
    keys: list[bytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """How many events come in before the next generation is published."""

    first: int
    """Live scores, before the retrained model shadows."""
    audited: int
    """Audit records of the retrained model: the calibration sample of its maps."""
    before: int
    """Live scores under the new maps, before the promotion."""
    after: int | None = None
    """Live scores and audit records after the promotion, then the stream ends; None streams everything."""
    from_start: bool = False
    """The numbers are places in the stream, counted from its first event, and not events of each generation."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """One guided run."""

    title: str
    story: tuple[str, ...]
    """What is streamed and by what it is scored, in lines for people."""
    folder: Path
    """Holds the files that `base` names; a scratch folder of this run."""
    base: Mapping[str, Any]
    """The configuration as a document holds it, without maps: OLD serves, NEW waits."""
    events: StreamEvents
    slices: Callable[[], Iterator[Slice]]
    """The stream, from its beginning, every time it is called."""
    first_aggregates: Mapping[str, NDArray[np.float64]]
    """Tenant -> aggregates of OLD on events before the stream: what its first maps are fitted on."""
    thresholds: Mapping[str, float]
    """Tenant -> its own alert threshold."""
    plan: Plan
    rate: float | None
    """Events a second; None is flat out."""
    drifts: bool = False
    """The stream itself is known to move, so a rate may differ between two times; see `comparison`."""
    later: Callable[[], Later] | None = None
    """Makes what comes after the stream, for the chapter on drift; None: there is none."""
