"""What the outside sees of a process: structured logs, metrics, health pages. No secret gets out by them.

logs, log     JSON lines on stderr; what other rooms ask of a log
masking       secrets in log lines
metrics       counters, gauges and histograms of one process
health        `/live`, `/ready`, `/metrics`
"""

from muse_stream.telemetry.health import HealthServer, check_host
from muse_stream.telemetry.log import Log
from muse_stream.telemetry.logs import configure, logger
from muse_stream.telemetry.metrics import Family, Metrics

__all__ = [
    "Family",
    "HealthServer",
    "Log",
    "Metrics",
    "check_host",
    "configure",
    "logger",
]
