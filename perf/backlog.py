"""Scenario `backlog`: one worker and ten million events: does its memory stay flat?

The events of the workload, sent again and again. Memory is that of the largest process, looked at all the time; given
are its medians over the second tenth and over the last tenth of the events, and the most. Answers are counted.
"""

import os
import signal
import statistics
import sys
from itertools import chain, cycle, islice
from pathlib import Path

from muse_stream.errors import MuseError
from muse_stream.testing import CommittedReader
from perf import rig, workload
from perf.draining import drain, largest_rss, serving
from perf.figures import Figures

PARTITIONS, TENTHS = 4, 10
LIMIT_S = 600.0


def run(bootstrap: str, folder: Path, count: int) -> Figures:
    """Measure."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1)
    rig.create(bootstrap, {f"muse.{kind}.t000": PARTITIONS for kind in ("events", "scores", "dlq")})
    rig.forget(bootstrap)
    distinct = list(chain.from_iterable(workload.events(path, data, slice(0, min(count, data.rows)))))

    rig.send(bootstrap, "muse.events.t000", PARTITIONS, islice(cycle(distinct), count))
    store = rig.publish(path, folder / "store")
    command = [str(Path(sys.executable).parent / "muse-stream"), "run", "--role", "live", "--store", str(store)]
    command += ["--name", "perf", "--no-spare", "--start", "earliest"]
    environment = os.environ | {"MUSE_KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    looked: list[tuple[int, float]] = []
    with serving(command, folder / "worker.log", environment, signal.SIGINT) as process:
        topics = {"muse.events.t000": PARTITIONS}
        done = drain(
            bootstrap,
            "muse.main.live",
            topics,
            count,
            process,
            LIMIT_S,
            look=lambda events: looked.append((events, largest_rss(process))),
        )
    answers = _count(bootstrap, count)
    tenths = [_median_mb(looked, count, tenth) for tenth in range(TENTHS)]
    known = [one for one in tenths if one is not None]
    early, late = known[min(1, len(known) - 1)], known[-1]
    return {
        "scenario": "backlog",
        "events": count,
        "checked": f"{answers} answers",
        "events_per_s": round(done.events_per_s),
        "worker_cpu_s_per_million": round(done.cpu_s_per_million, 2),
        "rss_mb_second_tenth": round(early),
        "rss_mb_last_tenth": round(late),
        "rss_mb_most": round(done.rss_mb),
        "rss_growth_percent": round((late / early - 1) * 100, 1),
        "rss_mb_tenths": " ".join("-" if one is None else f"{one:.0f}" for one in tenths),
    }


def _median_mb(looked: list[tuple[int, float]], count: int, tenth: int) -> float | None:
    """Return the memory over a tenth of the events, where it was looked at meanwhile."""
    low, high = count * tenth / TENTHS, count * (tenth + 1) / TENTHS
    found = [rss for events, rss in looked if low < events <= high]
    return statistics.median(found) / 1e6 if found else None


def _count(bootstrap: str, count: int) -> int:
    """Count the answers, which must be as many as there are events."""
    found = 0
    with CommittedReader(bootstrap, {"muse.scores.t000": PARTITIONS, "muse.dlq.t000": PARTITIONS}) as reader:
        ends, read = reader.ends(), 0
        refused = sum(end for (topic, _), end in ends.items() if "dlq" in topic)
        if refused:
            raise MuseError(f"backlog: events were refused ({refused} records and markers)")
        while messages := reader.read(5.0, 50_000):
            read += len(messages)
            if read >= count:
                break
        found = read + len(reader.read(0.5))
    if found != count:
        raise MuseError(f"backlog: {found} answers to {count} events")
    return found
