"""Run benchmarks: `python -m perf [SCENARIO ...] [--json]`; without a name, all of them.

One table a scenario. A scenario keeps its name; what it measures stands in its module.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from muse_stream import environment
from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import broker
from perf import counting, drain, latency, memory, publish, stages, swap, takeover
from perf.drain import Figures

Scenario = Callable[[str, Path], Figures]
SCENARIOS: dict[str, Scenario] = {
    "drain": lambda bootstrap, folder: drain.run(bootstrap, folder, 1_000_000),
    "drain-decimal": lambda bootstrap, folder: drain.run_decimal(bootstrap, folder, 1_000_000),
    "latency": lambda b, f: latency.run(b, f, tenants=1, partitions=4, shared=False, seconds=85),
    "latency-60-own": lambda b, f: latency.run(b, f, tenants=60, partitions=1, shared=False, seconds=85),
    "takeover": takeover.run,
    "takeover-supervisor": lambda b, f: takeover.run(b, f, "takeover-supervisor"),
    "takeover-run": lambda b, f: takeover.run(b, f, "takeover-run"),
    "takeover-host": lambda b, f: takeover.run(b, f, "takeover-host"),
    "publish": publish.run,
    "takeover-memory": memory.replacements,
    "memory": memory.swaps,
    "swap": swap.run,
    "swap-redis": lambda b, f: swap.run(b, f, kind="redis"),
    "stages": stages.run,
    "counting": lambda b, f: counting.run(b, f, 1_000_000),
    "latency-60-shared": lambda b, f: latency.run(b, f, tenants=60, partitions=1, shared=True, seconds=85),
}
WITHOUT_BROKER = {"publish"}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m perf", description="Benchmarks on a real broker.")
    parser.add_argument("scenario", nargs="*", default=list(SCENARIOS), help=", ".join(SCENARIOS))
    parser.add_argument("--json", action="store_true", help="one JSON object a scenario")
    asked = parser.parse_args()
    for name in asked.scenario:
        if name not in SCENARIOS:
            parser.error(f"no scenario '{name}'; there are {', '.join(SCENARIOS)}")
    environment.check()
    for name in asked.scenario:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            bootstrap = "" if name in WITHOUT_BROKER else stack.enter_context(broker(say=_note)).bootstrap
            figures = SCENARIOS[name](bootstrap, folder)
        print(json.dumps(figures) if asked.json else _lines(name, figures), flush=True)
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
