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

From Python, without Kafka: `load` a configuration or a store and `score` a table; `check`, `publish` and `replay` as
the commands do; `posterior_correction`, `Reference` and `QuantileMap` by themselves. Importing this package imports no
vendor's library; each name is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muse_stream.calibration import (
        FittedMap,
        Pool,
        PriorEstimate,
        QuantileMap,
        Recalibration,
        Reference,
        estimate_prior,
        posterior_correction,
        prior_beta,
    )
    from muse_stream.commands.check import check
    from muse_stream.commands.fit import Fit, FittedTenant, Fitting, fit_maps
    from muse_stream.commands.fit_samples import FileColumns, FitError
    from muse_stream.commands.load import load
    from muse_stream.commands.publish import publish
    from muse_stream.commands.replay import replay
    from muse_stream.control import open_store
    from muse_stream.errors import (
        Abortable,
        ConfigError,
        Fatal,
        Fenced,
        ModelError,
        MuseError,
        Problem,
        RegistryError,
        Retriable,
        SchemaError,
        SchemaPending,
        StoreError,
        StreamError,
    )
    from muse_stream.scoring import Answers, Snapshot, Table

    __version__: str

__all__ = [
    "Abortable",
    "Answers",
    "ConfigError",
    "Fatal",
    "Fenced",
    "FileColumns",
    "Fit",
    "FitError",
    "FittedMap",
    "FittedTenant",
    "Fitting",
    "ModelError",
    "MuseError",
    "Pool",
    "PriorEstimate",
    "Problem",
    "QuantileMap",
    "Recalibration",
    "Reference",
    "RegistryError",
    "Retriable",
    "SchemaError",
    "SchemaPending",
    "Snapshot",
    "StoreError",
    "StreamError",
    "Table",
    "__version__",
    "check",
    "estimate_prior",
    "fit_maps",
    "load",
    "open_store",
    "posterior_correction",
    "prior_beta",
    "publish",
    "replay",
]

_ERRORS = ("Abortable", "ConfigError", "Fatal", "Fenced", "ModelError", "MuseError", "Problem", "Retriable")
_HOMES = {
    **dict.fromkeys(
        (*_ERRORS, "RegistryError", "SchemaError", "SchemaPending", "StoreError", "StreamError"), "muse_stream.errors"
    ),
    **dict.fromkeys(("Answers", "Snapshot", "Table"), "muse_stream.scoring"),
    **dict.fromkeys(("QuantileMap", "Reference", "posterior_correction"), "muse_stream.calibration"),
    **dict.fromkeys(("PriorEstimate", "Recalibration", "estimate_prior", "prior_beta"), "muse_stream.calibration"),
    **dict.fromkeys(("FittedMap", "Pool"), "muse_stream.calibration"),
    **dict.fromkeys(("Fit", "FittedTenant", "Fitting", "fit_maps"), "muse_stream.commands.fit"),
    **dict.fromkeys(("FileColumns", "FitError"), "muse_stream.commands.fit_samples"),
    "check": "muse_stream.commands.check",
    "load": "muse_stream.commands.load",
    "open_store": "muse_stream.control",
    "publish": "muse_stream.commands.publish",
    "replay": "muse_stream.commands.replay",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for."""
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - 25 ms

        value: Any = version("muse-stream")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
