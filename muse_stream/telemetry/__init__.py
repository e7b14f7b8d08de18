"""What the outside sees of a process: structured logs and health pages, `/live`, `/ready` and `/metrics`.

No secret gets out. What a worker counts is defined in `runtime/worker_metrics.py`; the other rooms declare the small
protocol they need (`worker.meter.Meter`).
"""

from muse_stream.telemetry.health import HealthServer, check_host
from muse_stream.telemetry.logs import Log, configure, logger

__all__ = [
    "HealthServer",
    "Log",
    "check_host",
    "configure",
    "logger",
]
