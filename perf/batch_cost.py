"""Scenario `batch-cost`: what a small batch costs however small it is, without a broker.

    batch-cost, batch-cost-100     1 tenant, 100 tenants; one predictor
    batch-cost-predictors          100 tenants of five intents each, 500 predictors over 5 models

Batches of 1, 10, 100 and 1,000 events through the product's own scorer: microseconds of processor time a batch, user
and system, of all threads; the median of many. `paced` batches come 5 ms apart, as at a low rate: by then other threads
have had the caches. The parts are the scorer's own functions.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from muse_stream.config import load_document
from muse_stream.runtime.batch_scorer import GenerationScorer
from muse_stream.runtime.compile import compile_generation
from muse_stream.worker.batch import Batch
from perf import configurations, workload
from perf.figures import Figures

SIZES = (1, 10, 100, 1_000)
REPEATS, PACED = 300, 100
PAUSE_S = 0.005
POOL = 20_000


def run(_bootstrap: str, folder: Path, tenants: int = 1, predictors: int = 1) -> Figures:
    """Measure; the broker is not used."""
    data, name = workload.read_data(), "batch-cost" if tenants == 1 else f"batch-cost-{tenants}"
    if predictors > 1:
        data, name = configurations.with_intents(data), "batch-cost-predictors"
        path = configurations.tenants(folder, data, tenants, predictors=predictors)
    else:
        path = workload.configure(folder, data, tenants, shared_outputs=tenants > 1)
    values = next(workload.events(path, data, slice(0, 50_000)))[:POOL]
    compiled = compile_generation(load_document(path), 1, "live")
    scorer = GenerationScorer(compiled, "live", "main")
    scorer.warm()
    figures: Figures = {"scenario": name, "data": data.name}
    for size in SIZES:
        batches = [_batch(values[at : at + size], tenants, at) for at in range(0, POOL - size, size)][:REPEATS]
        figures[f"score_{size}_us"] = _median([partial(scorer.score, b, 1) for b in batches], REPEATS)
        figures[f"paced_{size}_us"] = _median([partial(scorer.score, b, 1) for b in batches], PACED, PAUSE_S)
    for size in (1, 100):
        batch = _batch(values[:size], tenants, 0)
        events = scorer._reader.read(batch, ids=False)  # the parts are nobody else's business
        scored = compiled.snapshot.execute(events)
        figures |= {
            f"decode_{size}_us": _median([partial(scorer._reader.read, batch, ids=False)], REPEATS),
            f"execute_{size}_us": _median([partial(compiled.snapshot.execute, events)], REPEATS),
            f"encode_{size}_us": _median([partial(scorer._writer.scores, batch, events, scored.live, 0, 1)], REPEATS),
        }
    return figures


def _batch(values: Sequence[bytes], tenants: int, start: int) -> Batch:
    count = len(values)
    return Batch(
        [f"muse.events.t{number % tenants:03}" for number in range(count)],
        [number // tenants % 4 for number in range(count)],
        list(range(start, start + count)),
        [None] * count,
        list(values),
        lambda: [0] * count,
        lambda: [[]] * count,
    )


def _median(calls: Sequence[Callable[[], object]], repeats: int, pause_s: float = 0.0) -> float:
    times = []
    for number in range(repeats):
        if pause_s:
            time.sleep(pause_s)
        began = time.process_time_ns()
        calls[number % len(calls)]()
        times.append(time.process_time_ns() - began)
    return round(statistics.median(times) / 1000, 1)
