"""What a worker process tells of itself in the generation store (control/heartbeats.py).

All of it is what the worker has told its meter, its log and its health pages already: nothing is asked of the worker's
own thread.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING

from muse_stream.control import Heartbeat, TenantBeat, short
from muse_stream.runtime.memory import resident_bytes
from muse_stream.runtime.run import RunOptions
from muse_stream.runtime.worker_metrics import WorkerMeter
from muse_stream.telemetry import last_error

if TYPE_CHECKING:
    from muse_stream.models import Backend

RATE_S = 10.0
"""The rate is that of so long a time."""


class Vitals:
    """Makes the heartbeats of one worker."""

    def __init__(
        self,
        options: RunOptions,
        slot: int,
        meter: WorkerMeter,
        *,
        refused: Callable[[], int | None],
        sequence: Callable[[], int],
        problem: Callable[[], str],
        unready: Callable[[], str],
        memory_restarts: int = 0,
    ) -> None:
        self._options, self._slot, self._meter, self._memory_restarts = options, slot, meter, memory_restarts
        self._refused, self._problem, self._unready = refused, problem, unready
        self._sequence = sequence
        self._version = version("muse-stream")
        self._started = datetime.now(UTC).isoformat(timespec="seconds")
        self._answered = deque([(time.monotonic(), 0)])
        """When how many events had been answered."""

    def __call__(self) -> Heartbeat:
        """Return what is to be told now."""
        tenants = self._meter.tenants()
        problem = self._problem()
        return Heartbeat(
            host=self._options.host,
            slot=self._slot,
            role=self._options.role,
            lane=self._options.lane,
            pid=os.getpid(),
            version=self._version,
            started=self._started,
            generation=self._meter.generation,
            refused=self._refused() if problem else None,
            sequence=self._sequence(),
            problem=short(problem),
            unready=short(self._unready()),
            rate=round(self._rate(), 1),
            lag=_sum(tenants),
            age_s=max((one.age_s or 0.0 for one in tenants.values()), default=0.0),
            memory_bytes=resident_bytes(os.getpid()) or 0,
            memory_restarts=self._memory_restarts,
            error=short(last_error.text),
            error_at=last_error.at,
            tenants=tenants,
            backends=short(_backends(self._meter.backends)),
            slow=short(", ".join(name for name, one in self._meter.backends.items() if one.lacking)),
        )

    def _rate(self) -> float:
        now_s, answered = time.monotonic(), self._meter.answered
        while len(self._answered) > 1 and now_s - self._answered[1][0] > RATE_S:
            self._answered.popleft()
        since_s, before = self._answered[0]
        self._answered.append((now_s, answered))
        return (answered - before) / max(now_s - since_s, 0.001)


def _backends(backends: Mapping[str, "Backend"]) -> str:
    """Return what runs each model, those that have a reason last."""
    compiled = [name for name, one in backends.items() if one.name == "compiled"]
    others = [f"{name} by {one.name} ({one.why})" for name, one in backends.items() if one.name != "compiled"]
    return "; ".join([*([f"compiled: {', '.join(compiled)}"] if compiled else []), *others])


def _sum(tenants: dict[str, TenantBeat]) -> int | None:
    lags = [one.lag for one in tenants.values()]
    return None if None in lags else sum(lag for lag in lags if lag is not None)
