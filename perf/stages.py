"""Scenario `stages`: where the time of one event goes, without a broker.

10,000 events of the workload in one batch: microseconds an event, best of many, for the whole scorer and its parts. The
parts are the product's own functions on the product's own data; what is left over joins them.
"""

import time
from collections.abc import Callable
from pathlib import Path

from muse_stream.config import load_document
from muse_stream.runtime.batch_scorer import GenerationScorer
from muse_stream.runtime.compile import compile_generation
from muse_stream.worker.batch import Batch
from perf import workload
from perf.figures import Figures

EVENTS, REPEATS = 10_000, 40


def run(_bootstrap: str, folder: Path, backend: str = "onnxruntime") -> Figures:
    """Measure; the broker is not used."""
    data = workload.read_data()
    path = workload.configure(folder, data, 1, backend=backend)
    workload.optimise(path)
    values = next(workload.events(path, data, slice(0, 50_000)))[:EVENTS]
    compiled = compile_generation(load_document(path), 1, "live")
    scorer = GenerationScorer(compiled, "live", "main")
    batch = Batch(
        ["muse.events.t000"] * EVENTS,
        [0] * EVENTS,
        list(range(EVENTS)),
        [None] * EVENTS,
        list(values),
        lambda: [0] * EVENTS,
        lambda: [[]] * EVENTS,
    )
    events = scorer._reader.read(batch, ids=False)  # the parts are nobody else's business
    scored = compiled.snapshot.execute(events)
    model = next(iter(compiled.cache._models.values()))
    (wanted,) = model.inputs
    matrix = workload.matrix(data, EVENTS).astype(wanted.dtype)
    return {
        "scenario": "stages" if backend == "onnxruntime" else f"stages-{backend}",
        "data": data.name,
        "whole_us": _best(lambda: scorer.score(batch, 1)),
        "decode_us": _best(lambda: scorer._reader.read(batch, ids=False)),
        "execute_us": _best(lambda: compiled.snapshot.execute(events)),
        "of_which_model_us": _best(lambda: model.predict([matrix])),
        "encode_us": _best(lambda: scorer._writer.scores(batch, events, scored.live, 0, 1)),
    }


def _best(call: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return round(min(times) / EVENTS * 1e6, 2)
