"""Score multi-tenant event streams on Kafka, exactly once, with models that change and thresholds that do not.

An implementation of MUSE (Correia et al., arXiv 2602.11776): between a model and a tenant stand two transformations, so
that a threshold keeps its meaning when the model is retrained, and everything is served through intents, so that a
promotion is one change of a rule. docs/design.md shows the walk of an event and what each room holds.

    muse.events.*   bytes of many tenants
        |  kafka/, worker/   poll a batch; later: one transaction for scores, dead letters and offsets
        v  avro/             bytes -> columns
        |  scoring/          routing.py (which route?) -> planner.py (each distinct node once) -> operators.py:
        |                      models/ (ONNX) -> calibration/ (posterior correction) -> aggregation.py -> calibration/
        |                      (quantile map)
        v  avro/             columns -> bytes
    muse.scores.*  muse.audit.*  muse.dlq.*

Without Kafka: `muse_stream.load("muse.yaml").score(table)`; and `posterior_correction`, `Reference` and `QuantileMap`
by themselves. Importing this package imports no vendor's library; each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muse_stream.calibration import QuantileMap, Reference, posterior_correction
    from muse_stream.runtime.compile import load
    from muse_stream.scoring import Snapshot

__all__ = ["QuantileMap", "Reference", "Snapshot", "load", "posterior_correction"]

_HOMES = {
    "QuantileMap": "muse_stream.calibration.quantile_map",
    "Reference": "muse_stream.calibration.reference",
    "Snapshot": "muse_stream.scoring.snapshot",
    "load": "muse_stream.runtime.compile",
    "posterior_correction": "muse_stream.calibration.posterior_correction",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
