"""What the outside sees of a process: structured logs, metrics, health pages. No secret gets out by them.

logs      JSON lines on stderr
bounded   what may happen with every event: a line a minute
masking   secrets in log lines
health    `/live`, `/ready`, `/metrics`

What a worker counts is defined in `runtime/worker_metrics.py`.
"""

from muse_stream.telemetry.bounded import BoundedLog
from muse_stream.telemetry.health import HealthServer, check_address
from muse_stream.telemetry.logs import Log, configure, last_error, logger

__all__ = [
    "BoundedLog",
    "HealthServer",
    "Log",
    "check_address",
    "configure",
    "last_error",
    "logger",
]
