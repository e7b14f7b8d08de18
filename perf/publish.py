"""Scenario `publish`: what a large configuration costs: 60 tenants, 300 predictors, 12 models, a map file for each.

Gives, for a store in a folder and one in Redis, the seconds that `muse-stream publish` takes as a process: the first
time, and once more with a promotion in it, which is compared with what is current. Then the seconds that a worker takes
to compile and warm up what is current, and after that the next generation (its models are loaded already), and the
memory that it holds then: of a process that is forked as workers are.
"""

import os
import resource
import subprocess
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from muse_stream.errors import MuseError
from muse_stream.testing import LocalRedis
from perf import workload
from perf.figures import Figures


def run(_bootstrap: str, folder: Path, *, tenants: int = 60, of_each: int = 5, models: int = 12) -> Figures:
    """Measure."""
    data = workload.read_data()
    path = workload.configure_fleet(folder / "fleet", data, tenants=tenants, of_each=of_each, models=models)
    figures: Figures = {
        "scenario": "publish",
        "tenants": tenants,
        "predictors": tenants * of_each,
        "models": models,
        "load_average": round(os.getloadavg()[0], 1),
    }
    original = path.read_text()
    with LocalRedis() as redis:
        os.environ |= {"MUSE_CACHE_DIR": str(folder / "cache")}
        for name, store in (("directory", str(folder / "store")), ("redis", redis.url)):
            path.write_text(original)
            figures |= {f"publish_first_{key}_{name}": value for key, value in _publish(path, store).items()}
            path.write_text(_promoted(original))
            figures |= {f"publish_{key}_{name}": value for key, value in _publish(path, store).items()}
            for role in ("live", "shadow"):
                figures |= {f"{key}_{role}_{name}": value for key, value in _compiled(store, role).items()}
    return figures


def _promoted(text: str) -> str:
    """The second predictor of the first tenant becomes live."""
    assert "live: t000-v1\n" in text  # noqa: S101
    return text.replace("live: t000-v1\n", "live: t000-v2\n").replace("[t000-v2, ", "[t000-v1, ")


def _publish(path: Path, store: str) -> dict[str, float]:
    command = [str(Path(sys.executable).parent / "muse-stream"), "publish", str(path), "--store", store, "--yes"]
    began, cpu = time.perf_counter(), _cpu_of_children()
    done = subprocess.run([*command, "--force", "measured"], check=False, capture_output=True, text=True)
    if done.returncode:
        raise MuseError(f"publish ended with exit code {done.returncode}: {done.stderr}")
    return {"s": round(time.perf_counter() - began, 2), "cpu_s": round(_cpu_of_children() - cpu, 2)}


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _compiled(store: str, role: str) -> dict[str, float]:
    """Compile in a process of its own, forked from one that has imported what workers need."""
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    parent = context.Process(target=_supervisor, args=(theirs, store, role))
    parent.start()
    theirs.close()
    try:
        answer: dict[str, float] = ours.recv()
        return answer
    finally:
        parent.join()


def _supervisor(pipe: Connection, store: str, role: str) -> None:
    from muse_stream.runtime.run import prepare  # noqa: PLC0415 - in this process alone

    prepare()
    child = get_context("fork").Process(target=_worker, args=(pipe, store, role))
    child.start()
    child.join()


def _worker(pipe: Connection, store: str, role: str) -> None:
    from muse_stream.config import KafkaSettings  # noqa: PLC0415
    from muse_stream.control import Follower, Head, open_store  # noqa: PLC0415
    from muse_stream.runtime.run import RunOptions  # noqa: PLC0415
    from muse_stream.runtime.worker_process import compiler  # noqa: PLC0415
    from muse_stream.worker import InHand  # noqa: PLC0415

    options = RunOptions(store, "live" if role == "live" else "shadow", settings=KafkaSettings(bootstrap="none:1"))
    source = Follower(open_store(store))
    compile = compiler(options, source, InHand(get_context("fork")), frozenset())
    took: list[float] = []
    cpu: list[float] = []
    kept: list[object] = []

    def serve(head: Head) -> None:
        began, used = time.perf_counter(), time.process_time()
        kept[:] = [*kept[-1:], compile(source.open(head.number, head.sha256))]
        took.append(round(time.perf_counter() - began, 2))
        cpu.append(round(time.process_time() - used, 2))

    head, _ = source.first()
    serve(head)
    serve(Head((head.former or (head.number,))[0]))
    rss = psutil.Process().memory_info().rss / 1e6
    names = ("compile_s", "compile_next_s", "compile_cpu_s", "compile_next_cpu_s", "rss_mb")
    pipe.send(dict(zip(names, (*took, *cpu, round(rss)), strict=True)))
