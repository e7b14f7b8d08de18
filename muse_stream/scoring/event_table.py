"""One decoded batch, as the scoring core sees it: the columns that a snapshot asked for (`Snapshot.needs`).

Every column has `count` entries; row numbers in answers are positions in this table. It is read, never changed.
"""

from collections.abc import Mapping

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from muse_stream.scoring.columns import Categorical, Column


class EventTable(Struct, frozen=True, eq=False):
    """A batch of events as columns."""

    count: int
    tenant: Categorical
    intent: Mapping[str, Categorical]
    """Intent attribute -> column; `tenant` is not repeated here."""
    features: Mapping[str, Column]
    """Dotted field -> column."""
    ids: NDArray[np.bytes_] | None = None
    """Event ids as fixed-width bytes ('S'); needed only when a route samples (`Snapshot.needs_ids`)."""
