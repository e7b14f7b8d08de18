"""What the predictor in service says about events of the past: the sample of its first maps.

A base configuration and a table of events give aggregates, by tenant. They come from the ONNX pipeline itself, never
from the library that trained the models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from muse_stream.commands.load import load
from muse_stream.demo import configuration
from muse_stream.demo.scenario import OLD
from muse_stream.scoring import EventTable


def aggregates(base: Mapping[str, Any], folder: Path, table: EventTable) -> dict[str, NDArray[np.float64]]:
    """Return tenant -> the aggregates of OLD; the files that `base` names stand in `folder`."""
    path = configuration.write({**base, "routes": [{"live": OLD}]}, folder / "past.yaml")
    scored = load(path, role="live").execute(table)
    (live,) = scored.live
    tenant = table.tenant.codes[live.rows]
    return {str(name): live.aggregate[tenant == code] for code, name in enumerate(table.tenant.values)}
