"""What the outside sees of a process: structured logs, metrics, health pages. No secret gets out by them.

logs      JSON lines on stderr
bounded   what may happen with every event: a line a minute
masking   secrets in log lines
health    `/live`, `/ready`, `/metrics`
spans     traces, for OpenTelemetry; imported where they are wanted alone

What a worker counts is defined in `runtime/worker_metrics.py`.
"""

from typing import TYPE_CHECKING, Any

from muse_stream.telemetry.bounded import BoundedLog
from muse_stream.telemetry.logs import Log, configure, last_error, logger

if TYPE_CHECKING:
    from muse_stream.telemetry.health import HealthServer, check_address
    from muse_stream.telemetry.spans import OpenSpan, Parent, Spans, spans_wanted

__all__ = [
    "BoundedLog",
    "HealthServer",
    "Log",
    "OpenSpan",
    "Parent",
    "Spans",
    "check_address",
    "configure",
    "last_error",
    "logger",
    "spans_wanted",
]


def __getattr__(name: str) -> Any:
    """Import the pages when they are first asked for: a web server, which few processes are. Spans likewise."""
    if name in ("HealthServer", "check_address"):
        from muse_stream.telemetry import health  # noqa: PLC0415

        return getattr(health, name)
    if name in ("OpenSpan", "Parent", "Spans", "spans_wanted"):
        from muse_stream.telemetry import spans  # noqa: PLC0415

        return getattr(spans, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
