"""Run benchmarks: `python -m perf run [--scenario ID ...] [quick] --json`, `table`, `compare BASE HEAD`.

`python -m perf ID ...` is `run`. One table a scenario. A scenario keeps its name and its seeds; what it measures stands
in its module. perf/README.md lists them.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

import psutil
from confluent_kafka import KafkaException

from muse_stream import environment
from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import broker
from perf import (
    backlog,
    batch_cost,
    compare,
    configurations,
    counting,
    idle,
    latency,
    latency_peers,
    memory,
    publish,
    results,
    rig,
    skew,
    stages,
    start,
    swap,
    swap_each_second,
    tables,
    takeover,
    throughput,
)
from perf.figures import Figures
from perf.throughput import Contest, Ratio, Spec

Size = Callable[[int, int, int], int]
"""Chooses what is taken: of a full run, of a quick one, of one that only sees whether the code works."""
Scenario = Callable[[str, Path, Size], Figures]
SIZES: dict[str, Size] = {
    "full": lambda full, quick, tiny: full,
    "quick": lambda full, quick, tiny: quick,
    "tiny": lambda full, quick, tiny: tiny,
}
SCENARIOS: dict[str, Scenario] = {
    "live": lambda b, f, n: _drained(b, f, n, _live(), 400_000),
    "peers": lambda b, f, n: _drained(b, f, n, _slow_peers(), 150_000),
    "live-limits": lambda b, f, n: _drained(b, f, n, _limits(), 400_000),
    "live-decimal": lambda b, f, n: _drained(b, f, n, _decimal(), 200_000),
    "shadow": lambda b, f, n: _drained(b, f, n, _shadow(n(100, 100, 3)), 200_000),
    "tenants": lambda b, f, n: _drained(b, f, n, _tenants(n(100, 100, 12), n(500, 500, 60), n(100, 100, 3)), 200_000),
    "tenants-1": lambda b, f, n: _alone(b, f, n, throughput.tenants(1, n(500, 500, 5), n(100, 100, 3)), 300_000),
    "tenants-10": lambda b, f, n: _alone(b, f, n, throughput.tenants(10, n(500, 500, 50), n(100, 100, 3)), 300_000),
    "tenants-100": lambda b, f, n: _alone(b, f, n, throughput.tenants(100, 500, n(100, 100, 3)), 300_000),
    "skew": lambda b, f, n: _alone(b, f, n, throughput.skew(n(500, 500, 100), n(100, 100, 3)), 300_000),
    "wide": lambda b, f, n: _alone(b, f, n, throughput.wide(n(100, 100, 3)), 100_000),
    "deep": lambda b, f, n: _drained(b, f, n, _deep(n(400, 400, 3)), 40_000),
    "scale-1": lambda b, f, n: _alone(b, f, n, throughput.scale(1), 600_000),
    "scale-2": lambda b, f, n: _alone(b, f, n, throughput.scale(2), 600_000),
    "scale-4": lambda b, f, n: _alone(b, f, n, throughput.scale(4), 600_000),
    "backlog": lambda b, f, n: backlog.run(b, f, n(10_000_000, 1_000_000, 20_000)),
    "latency": lambda b, f, n: latency.run(b, f, (100, 1_000, 5_000, 20_000), n(2, 2, 1), n(15, 8, 1), n(45, 10, 1)),
    "latency-peers": lambda b, f, n: latency_peers.run(
        b, f, turns=n(2, 1, 1), rates=(1_000, 100, 5_000, 20_000), counted_s=n(10, 8, 1), warm_most_s=n(30, 10, 1)
    ),
    "latency-60-own": lambda b, f, n: latency.run_sixty(
        b, f, shared=False, counted_s=n(40, 10, 1), warm_most_s=n(45, 10, 1)
    ),
    "latency-60-shared": lambda b, f, n: latency.run_sixty(
        b, f, shared=True, counted_s=n(40, 10, 1), warm_most_s=n(45, 10, 1)
    ),
    "tenants-latency": lambda b, f, n: latency.run_tenants(
        b,
        f,
        many=n(100, 100, 12),
        predictors=n(500, 500, 60),
        trees=n(100, 100, 3),
        counted_s=n(15, 10, 1),
        warm_most_s=n(45, 10, 1),
    ),
    "skew-latency": lambda b, f, n: skew.run(
        b, f, hot=n(1_000_000, 300_000, 5_000), predictors=n(500, 500, 100), trees=n(100, 100, 3)
    ),
    "idle": lambda b, f, n: idle.run(b, f, n(5, 5, 1), n(30, 20, 1)),
    "takeover": lambda b, f, n: takeover.run(b, f),
    "takeover-supervisor": lambda b, f, n: takeover.run(b, f, "takeover-supervisor"),
    "takeover-run": lambda b, f, n: takeover.run(b, f, "takeover-run"),
    "takeover-host": lambda b, f, n: takeover.run(b, f, "takeover-host"),
    "publish": lambda b, f, n: publish.run(b, f),
    "takeover-memory": lambda b, f, n: memory.replacements(b, f),
    "memory": lambda b, f, n: memory.swaps(b, f),
    "swap-each-second": lambda b, f, n: swap_each_second.run(
        b, f, swaps=n(20, 10, 2), steady_s=n(15, 10, 1), warm_most_s=n(45, 10, 1), trees=n(100, 100, 3)
    ),
    "swap": lambda b, f, n: swap.run(b, f),
    "swap-redis": lambda b, f, n: swap.run(b, f, kind="redis"),
    "stages": lambda b, f, n: stages.run(b, f),
    "stages-compiled": lambda b, f, n: stages.run(b, f, "compiled"),
    "batch-cost": lambda b, f, n: batch_cost.run(b, f),
    "batch-cost-100": lambda b, f, n: batch_cost.run(b, f, 100),
    "batch-cost-predictors": lambda b, f, n: batch_cost.run(b, f, 100, configurations.PREDICTORS),
    "start": lambda b, f, n: start.run(b, f),
    "counting": lambda b, f, n: counting.run(b, f, n(1_000_000, 200_000, 50_000)),
}


def _alone(bootstrap: str, folder: Path, n: Size, spec: Spec, count: int) -> Figures:
    return _drained(bootstrap, folder, n, Contest((spec,)), count)


def _drained(bootstrap: str, folder: Path, n: Size, contest: Contest, count: int) -> Figures:
    return throughput.run(bootstrap, folder, contest, n(count, count // 4, 2_000), n(3, 1, 1))


def _live() -> Contest:
    ratios = (Ratio("compiled_of_live", "compiled", "live"),)
    return Contest((throughput.LIVE, throughput.compiled()), ratios, peers=("kafka-streams",))


def _slow_peers() -> Contest:
    return Contest((replace(throughput.LIVE, name="peers"),), peers=("per-event", "quixstreams"), peers_share=0.2)


def _limits() -> Contest:
    live = replace(throughput.LIVE, name="live-limits")
    return Contest((live, throughput.compiled()), peers=("columnar", "columnar-native", "model", "model-native"))


def _decimal() -> Contest:
    return Contest((throughput.decimal(), throughput.LIVE), (Ratio("of_live", "live-decimal", "live"),))


def _deep(trees: int) -> Contest:
    return Contest((throughput.deep(trees), throughput.compiled()), (Ratio("compiled_of_deep", "compiled", "deep"),))


def _shadow(trees: int) -> Contest:
    """The bound is that of shadows on the live predictor's models; the scenario has one of its own as well."""
    live = Spec("live", throughput.LIVE.configure, change=lambda path: path)
    shared = replace(throughput.shadow(trees), name="shared", change=configurations.with_shared_shadows)
    ratios = (
        Ratio("cpu_of_live", "shadow", "live", "cpu_s_per_million"),
        Ratio("shared_cpu_of_live", "shared", "live", "cpu_s_per_million"),
    )
    return Contest((throughput.shadow(trees), shared, live), ratios)


def _tenants(count: int, predictors: int, trees: int) -> Contest:
    many = throughput.tenants(count, predictors, trees, "tenants")
    one = throughput.tenants(1, predictors, trees, "one", prefix="o")
    own = throughput.own_outputs(many, "own")
    return Contest((many, own, one), (Ratio("of_one", "tenants", "one"), Ratio("own_of_one", "own", "one")))


WITHOUT_BROKER = {"publish", "stages", "stages-compiled", "batch-cost", "batch-cost-100", "batch-cost-predictors"}
OWN_BROKER = {"takeover", "takeover-supervisor", "takeover-run", "takeover-host", "takeover-memory", "memory"}
"""Processes are killed: what they leave in the broker is nobody else's business."""
RETIRED = {
    "drain": "live",
    "drain-decimal": "live-decimal",
    "drain-compiled": "live",
    "deep-compiled": "deep",
}
"""Scenarios that were measured with a reader beside, which took of the same two cores; and what took their place."""
FAULTS = (MuseError, KafkaException, OSError, TimeoutError, subprocess.SubprocessError, psutil.Error)
"""What keeps one scenario from being measured, and not the others."""
ALL = (
    "live",
    "latency",
    "live-decimal",
    "deep",
    "tenants",
    "tenants-latency",
    "shadow",
    "skew-latency",
    "swap-each-second",
    "start",
    "idle",
    "peers",
    "backlog",
)
"""Of `make perf`: the README's table, within 15 minutes on an idle machine."""
QUICK = ("live", "latency")
"""Of `make perf ARGS=quick`: within 2 minutes."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked for."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in ("run", "table", "compare", "-h", "--help"):
        words.insert(0, "run")
    parser = argparse.ArgumentParser(prog="python -m perf", description="Benchmarks on a real broker.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure", epilog=f"scenarios: {', '.join(SCENARIOS)}")
    run.add_argument("words", nargs="*", metavar="ID", help="scenarios; `quick`: smaller, and in 2 minutes")
    run.add_argument("--scenario", action="append", default=[], metavar="ID", help="a scenario; repeat it")
    run.add_argument("--size", choices=[*SIZES], default="full", help="tiny: does it work, in seconds")
    run.add_argument("--json", action="store_true", help="one JSON object a scenario, on one line")
    run.add_argument("--save", action="store_true", help="store each result in perf/results, for `table`")
    run.add_argument(
        "--resume", action="store_true", help="with --save: leave out what this commit has a stored result of already"
    )
    table = commands.add_parser("table", help="print the README's table from the newest stored results")
    table.add_argument("--write", action="store_true", help="put it into the README, and plan's into docs/capacity.md")
    both = commands.add_parser(
        "compare",
        help="two git revisions, or two files of results, beside each other",
        description=compare.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="python -m perf compare main HEAD --scenario live --scenario latency",
    )
    both.add_argument("base", metavar="BASE", help="a git revision, or a file that `run --save` or `--json` has made")
    both.add_argument("head", metavar="HEAD", help="of the same kind")
    both.add_argument("--scenario", action="append", default=[], metavar="ID", help="default: live; repeat it")
    both.add_argument("--pairs", type=int, default=3, metavar="N", help="how often revisions are measured (3)")
    both.add_argument("--size", choices=[*SIZES], default="full", help="of a run")
    both.add_argument("--json", action="store_true", help="one JSON object a figure, on one line")
    asked = parser.parse_args(words)
    if asked.command == "table":
        return _table(write=asked.write)
    if asked.command == "compare":
        return _compare(parser, asked)
    return _run(parser, asked)


def _run(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> int:
    quick = "quick" in asked.words
    names = [*asked.scenario, *(word for word in asked.words if word != "quick")] or list(QUICK if quick else ALL)
    _check(parser, names)
    size = "quick" if quick else asked.size
    if asked.save and size != "full":
        parser.error(f"a {size} run is no result to store")
    if asked.resume and not asked.save:
        parser.error("--resume goes with --save")
    environment.check()
    if asked.resume and (there := results.of_this_commit() & set(names)):
        _note(f"stored already, left out: {', '.join(name for name in names if name in there)}")
        names = [name for name in names if name not in there]
    failed = []
    store = results.Store() if asked.save else None
    for name, figures in _measured(names, SIZES[size]):
        if isinstance(figures, Exception):
            failed.append(name)
            _note(f"{name}: {figures}")
            continue
        print(json.dumps(figures) if asked.json else _lines(name, figures), flush=True)
        if store is not None:
            _note(f"stored: {store.add(figures)}")
    if failed:
        _note(f"not measured: {', '.join(failed)}")
    return 1 if failed else 0


def _check(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    for name in names:
        if name in RETIRED:
            parser.error(f"scenario '{name}' is no more: take '{RETIRED[name]}'")
        if name not in SCENARIOS:
            parser.error(f"no scenario '{name}'; there are {', '.join(SCENARIOS)}")


def _measured(names: Sequence[str], size: Size) -> Iterator[tuple[str, Figures | Exception]]:
    """Yield the figures of each scenario, or why there are none: the others are measured all the same.

    Scenarios share a broker, so that only the first of them meets a cold one.
    """
    with ExitStack() as shared:
        common = ""
        for name in names:
            began = time.monotonic()
            with ExitStack() as own:
                folder = Path(own.enter_context(tempfile.TemporaryDirectory()))
                if name in OWN_BROKER:
                    bootstrap = own.enter_context(broker(say=_note)).bootstrap
                elif name in WITHOUT_BROKER:
                    bootstrap = ""
                else:
                    bootstrap = common = common or shared.enter_context(broker(say=_note)).bootstrap
                try:
                    figures = SCENARIOS[name](bootstrap, folder, size)
                except FAULTS as error:
                    yield name, error
                    continue
                finally:
                    rig.remove_topics(bootstrap)
            yield name, {"scenario": name} | figures | {"took_s": round(time.monotonic() - began)}


def _table(*, write: bool) -> int:
    if write:
        for path in tables.write():
            _note(f"written: {path}")
    print(tables.measured(), tables.longer(), sep="\n", end="")
    return 0


def _compare(parser: argparse.ArgumentParser, asked: argparse.Namespace) -> int:
    stored = [Path(asked.base).is_file(), Path(asked.head).is_file()]
    if any(stored) and not all(stored):
        parser.error("compare takes two files or two revisions, not one of each")
    if asked.pairs < 1:
        parser.error("--pairs: at least 1")
    environment.check()
    if all(stored):
        found = compare.files(Path(asked.base), Path(asked.head))
        if asked.scenario:
            found = [one for one in found if one.scenario in asked.scenario]
    else:
        scenarios = asked.scenario or ["live"]
        found = compare.revisions(asked.base, asked.head, scenarios, asked.pairs, asked.size, _note)
    if asked.json:
        for one in found:
            spread = {"low": one.low, "high": one.high} if one.high != math.inf else {"low": None, "high": None}
            print(json.dumps(asdict(one) | spread | {"verdict": one.verdict}))
    else:
        print(compare.table(found))
    if not found:
        _note("no figure stands on both sides")
    return 0 if found else 1


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
