"""Run benchmarks: `python -m perf run [--scenario ID ...] [quick] --json`, `table`.

`python -m perf ID ...` is `run`. One table a scenario. A scenario keeps its name and its seeds; what it measures stands
in its module. perf/README.md lists them.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from muse_stream import environment
from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import broker
from perf import (
    batch_cost,
    counting,
    drain,
    latency,
    memory,
    publish,
    results,
    stages,
    start,
    swap,
    tables,
    takeover,
    throughput,
)
from perf.figures import Figures

Size = Callable[[int, int, int], int]
"""Chooses what is taken: of a full run, of a quick one, of one that only sees whether the code works."""
Scenario = Callable[[str, Path, Size], Figures]
SIZES: dict[str, Size] = {
    "full": lambda full, quick, tiny: full,
    "quick": lambda full, quick, tiny: quick,
    "tiny": lambda full, quick, tiny: tiny,
}
SCENARIOS: dict[str, Scenario] = {
    "live": lambda b, f, n: _drained(b, f, n, throughput.LIVE, 600_000),
    "shadow": lambda b, f, n: _drained(b, f, n, throughput.shadow(n(100, 100, 3)), 300_000),
    "tenants-1": lambda b, f, n: _drained(b, f, n, throughput.tenants(1, n(500, 500, 5), n(100, 100, 3)), 300_000),
    "tenants-10": lambda b, f, n: _drained(b, f, n, throughput.tenants(10, n(500, 500, 50), n(100, 100, 3)), 300_000),
    "tenants-100": lambda b, f, n: _drained(b, f, n, throughput.tenants(100, 500, n(100, 100, 3)), 300_000),
    "skew": lambda b, f, n: _drained(b, f, n, throughput.skew(n(500, 500, 100), n(100, 100, 3)), 300_000),
    "wide": lambda b, f, n: _drained(b, f, n, throughput.wide(n(100, 100, 3)), 100_000),
    "deep": lambda b, f, n: _drained(b, f, n, throughput.deep(n(400, 400, 3)), 100_000),
    "scale-1": lambda b, f, n: _drained(b, f, n, throughput.scale(1), 600_000),
    "scale-2": lambda b, f, n: _drained(b, f, n, throughput.scale(2), 600_000),
    "scale-4": lambda b, f, n: _drained(b, f, n, throughput.scale(4), 600_000),
    "drain": lambda b, f, n: drain.run(b, f, n(1_000_000, 200_000, 2_000)),
    "drain-decimal": lambda b, f, n: drain.run_decimal(b, f, n(1_000_000, 200_000, 2_000)),
    "drain-compiled": lambda b, f, n: drain.run(b, f, n(1_000_000, 200_000, 2_000), "compiled"),
    "deep-compiled": lambda b, f, n: drain.deep(b, f, n(200_000, 50_000, 2_000)),
    "latency": lambda b, f, n: latency.run(b, f, tenants=1, partitions=4, shared=False, seconds=85),
    "latency-60-own": lambda b, f, n: latency.run(b, f, tenants=60, partitions=1, shared=False, seconds=85),
    "latency-60-shared": lambda b, f, n: latency.run(b, f, tenants=60, partitions=1, shared=True, seconds=85),
    "takeover": lambda b, f, n: takeover.run(b, f),
    "takeover-supervisor": lambda b, f, n: takeover.run(b, f, "takeover-supervisor"),
    "takeover-run": lambda b, f, n: takeover.run(b, f, "takeover-run"),
    "takeover-host": lambda b, f, n: takeover.run(b, f, "takeover-host"),
    "publish": lambda b, f, n: publish.run(b, f),
    "takeover-memory": lambda b, f, n: memory.replacements(b, f),
    "memory": lambda b, f, n: memory.swaps(b, f),
    "swap": lambda b, f, n: swap.run(b, f),
    "swap-redis": lambda b, f, n: swap.run(b, f, kind="redis"),
    "stages": lambda b, f, n: stages.run(b, f),
    "stages-compiled": lambda b, f, n: stages.run(b, f, "compiled"),
    "batch-cost": lambda b, f, n: batch_cost.run(b, f),
    "batch-cost-100": lambda b, f, n: batch_cost.run(b, f, 100),
    "start": lambda b, f, n: start.run(b, f),
    "counting": lambda b, f, n: counting.run(b, f, n(1_000_000, 200_000, 50_000)),
}


def _drained(bootstrap: str, folder: Path, n: Size, spec: throughput.Spec, count: int) -> Figures:
    return throughput.run(bootstrap, folder, spec, n(count, count // 4, 2_000), n(3, 1, 1))


WITHOUT_BROKER = {"publish", "stages", "stages-compiled", "batch-cost", "batch-cost-100"}
ALL = ("live", "shadow", "stages", "latency", "latency-60-shared", "takeover", "takeover-run", "takeover-host")
"""Of `make perf`: within 15 minutes on an idle machine."""
QUICK = ("live", "stages")
"""Of `make perf ARGS=quick`: within 2 minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in ("run", "table", "-h", "--help"):
        words.insert(0, "run")
    parser = argparse.ArgumentParser(prog="python -m perf", description="Benchmarks on a real broker.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure", epilog=f"scenarios: {', '.join(SCENARIOS)}")
    run.add_argument("words", nargs="*", metavar="ID", help="scenarios; `quick`: smaller, and in 2 minutes")
    run.add_argument("--scenario", action="append", default=[], metavar="ID", help="a scenario; repeat it")
    run.add_argument("--size", choices=[*SIZES], default="full", help="tiny: does it work, in seconds")
    run.add_argument("--json", action="store_true", help="one JSON object a scenario, on one line")
    run.add_argument("--save", action="store_true", help="store the results in perf/results, for `table`")
    table = commands.add_parser("table", help="print the README's table from the newest stored results")
    table.add_argument("--write", action="store_true", help="put it into the README, and plan's into docs/capacity.md")
    asked = parser.parse_args(words)
    if asked.command == "table":
        return _table(write=asked.write)
    return _run(parser, asked)


def _run(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> int:
    quick = "quick" in asked.words
    names = [*asked.scenario, *(word for word in asked.words if word != "quick")] or list(QUICK if quick else ALL)
    for name in names:
        if name not in SCENARIOS:
            parser.error(f"no scenario '{name}'; there are {', '.join(SCENARIOS)}")
    if quick and asked.save:
        parser.error("a quick run is no result to store")
    environment.check()
    found: list[Figures] = []
    for name in names:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bootstrap = "" if name in WITHOUT_BROKER else stack.enter_context(broker(say=_note)).bootstrap
            figures = SCENARIOS[name](bootstrap, folder, SIZES["quick" if quick else asked.size])
        found.append({"scenario": name} | figures)
        print(json.dumps(found[-1]) if asked.json else _lines(name, figures), flush=True)
    if asked.save:
        _note(f"stored: {results.save(found)}")
    return 0


def _table(*, write: bool) -> int:
    if write:
        for path in tables.write():
            _note(f"written: {path}")
    print(tables.measured(), end="")
    return 0


def _note(line: str) -> None:
    print(line, file=sys.stderr)


def _lines(name: str, figures: Figures) -> str:
    width = max(len(key) for key in figures)
    return "\n".join([name, *(f"  {key:<{width}}  {value}" for key, value in figures.items() if key != "scenario")])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MuseError as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.exit_code)
