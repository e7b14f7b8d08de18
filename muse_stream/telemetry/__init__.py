"""What the outside sees of a process: structured logs, metrics, health.

In: events, numbers and two questions (alive? ready?). Out: lines on stderr, `/metrics`, `/live`, `/ready`.
Law: no secret gets out. The rooms that have something to say do not import this one: they declare the small protocol
they need (`Log`, `Metrics`), and `app.py` hands them what stands here.
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
