"""Two revisions, or two stored results, beside each other: `python -m perf compare BASE HEAD`.

Revisions are checked out into a temporary folder and measured in turns, PAIRS times, each by its own `perf/` (a
scenario keeps its name, its events and its measurement) on this environment's packages. A figure's ratio is head over
base, the median of the pairs; its spread is that of the pairs. Files are what `--save` has stored, or lines of
`--json`: their ratio has the spread that the figures themselves were stored with, where they were.

A difference is one only when its whole spread lies on one side of 1.
"""

import io
import json
import math
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_stream.errors import MuseError
from perf.results import PROJECT

MORE = ("events_per_s", "of_echo", "of_live", "of_one", "of_kafka_streams", "scores_per_s")
"""Ends of the names of figures of which more is better."""
LESS = ("_ms", "_us", "_mb", "_s", "cpu_s_per_million", "cpu_percent", "cpu_of_live")
"""And of which less is."""
NOT_COMPARED = ("took_s", "seconds", "calm_s")
SKIPPED = ("echo_", "broker_", "kafka_streams_", "per_event_", "quixstreams_")
"""Beginnings of names: not ours."""

Stored = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure of one scenario on both sides."""

    scenario: str
    figure: str
    base: float
    head: float
    ratio: float
    low: float
    high: float
    better: str
    """`more` or `less`."""

    @property
    def verdict(self) -> str:
        """What the spread allows to say."""
        if math.isinf(self.high):
            return "not known"
        if self.low <= 1.0 <= self.high:
            return "no difference"
        return "better" if (self.ratio > 1.0) == (self.better == "more") else "worse"


def direction(figure: str) -> str | None:
    """Say whether more or less of a figure is better; None for what is no measurement of ours."""
    name = figure
    while name and (name[-1].isdigit() or name.endswith("_")):  # p99_ms_1000
        name = name[:-1]
    if figure in NOT_COMPARED or figure.startswith(SKIPPED):
        return None
    for ends, better in ((MORE, "more"), (LESS, "less")):
        if name.endswith(ends) and not name.endswith("_cpu_s_per_million_sent"):
            return better
    return None


def files(base: Path, head: Path) -> list[Compared]:
    """Compare stored results."""
    both = _read(base), _read(head)
    return [one for name in both[0] if name in both[1] for one in _of([both[0][name]], [both[1][name]])]


def revisions(
    base: str, head: str, scenarios: Sequence[str], pairs: int, size: str, say: Callable[[str], object]
) -> list[Compared]:
    """Measure two revisions in turns."""
    with tempfile.TemporaryDirectory() as folder:
        trees = [_checkout(revision, Path(folder) / side) for revision, side in ((base, "base"), (head, "head"))]
        if len({(tree / "requirements.lock").read_bytes() for tree in trees}) > 1:
            say("the two pin different packages: both run on those of this environment")
        found: list[Compared] = []
        for scenario in scenarios:
            measured: tuple[list[Stored], list[Stored]] = ([], [])
            for pair in range(pairs):
                for side in (0, 1) if pair % 2 == 0 else (1, 0):  # neither is always the first on a cold machine
                    say(f"{scenario}: pair {pair + 1} of {pairs}, {(base, head)[side]}")
                    measured[side].append(_measure(trees[side], scenario, size))
            found += _of(*measured)
    return found


def _checkout(revision: str, target: Path) -> Path:
    """Write the files of a revision into a folder."""
    done = subprocess.run(["git", "archive", revision], cwd=PROJECT, capture_output=True, check=False)
    if done.returncode:
        raise MuseError(f"'{revision}' is neither a file nor a git revision: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
        files.extractall(target, filter="data")
    return target


def _measure(tree: Path, scenario: str, size: str) -> Stored:
    command = [sys.executable, "-m", "perf", "run", "--scenario", scenario, "--json"]
    command += ["quick"] if size == "quick" else ["--size", size]
    done = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise MuseError(f"{tree.name}: {scenario} ended with exit code {done.returncode}: {last}")
    found: Stored = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def environment(tree: Path) -> dict[str, str]:
    """Return the environment in which a folder's own package is imported, by the programs it starts as well."""
    from perf import workload  # noqa: PLC0415

    given = {"PYTHONPATH": str(tree)}
    if workload.HANDBOOK.exists() and "MUSE_PERF_EVENTS" not in os.environ:
        given["MUSE_PERF_EVENTS"] = str(workload.HANDBOOK)  # stands beside this checkout, not beside that folder
    return {**os.environ, **given}


def _read(path: Path) -> dict[str, Stored]:
    text = path.read_text(encoding="utf-8")
    try:
        document = json.loads(text)
        results = document.get("results", [document])
    except json.JSONDecodeError:
        results = [json.loads(line) for line in text.splitlines() if line.strip()]
    return {one["scenario"]: one for one in results}


def _of(base: Sequence[Stored], head: Sequence[Stored]) -> Iterator[Compared]:
    """Compare the figures that both sides have."""
    for figure in base[0]:
        better = direction(figure)
        if better is None or not all(_positive(one.get(figure)) for one in (*base, *head)):
            continue
        ratios = [float(ours[figure]) / float(theirs[figure]) for theirs, ours in zip(base, head, strict=True)]
        low, high = min(ratios), max(ratios)
        if len(ratios) == 1:
            low, high = _stored_spread(base[0], head[0], figure, ratios[0])
        yield Compared(
            str(base[0]["scenario"]),
            figure,
            statistics.median(float(one[figure]) for one in base),
            statistics.median(float(one[figure]) for one in head),
            round(statistics.median(ratios), 3),
            round(low, 3),
            round(high, 3),
            better,
        )


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0 and math.isfinite(value)


def _stored_spread(base: Stored, head: Stored, figure: str, ratio: float) -> tuple[float, float]:
    """Return the ratios that the stored spreads allow; all of them where there is none: one run is no evidence."""
    try:
        (low, high), (ours_low, ours_high) = (
            [float(part) for part in str(one[f"{figure}_spread"]).split(" to ")] for one in (base, head)
        )
    except KeyError:
        return 0.0, math.inf
    return min(ratio, ours_low / high), max(ratio, ours_high / low)


def table(found: Sequence[Compared]) -> str:
    """Return what was found as a table of text."""
    lines = [("scenario", "figure", "base", "head", "ratio", "spread", "")]
    for one in found:
        spread = "one run" if math.isinf(one.high) else f"{one.low:g} to {one.high:g}"
        numbers = (f"{one.base:,g}", f"{one.head:,g}", f"{one.ratio:g}", spread, one.verdict)
        lines.append((one.scenario, one.figure, *numbers))
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
