"""The tables that documents show: made of stored results and of the constants of `muse-stream plan`.

They stand between `<!-- perf NAME -->` and `<!-- end -->`. `python -m perf table` prints the README's, `--write` puts
all of them into their documents; a test holds the documents against them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from muse_stream.commands.plan import MEASURED, PACES, Load, plan
from perf import results


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the README's table; it is there when a result of the scenario is stored."""

    what: str
    scenario: str
    text: str
    """Filled with the figures."""
    command: str = ""
    unless: str = ""
    """Left out when that scenario has a result."""


ROWS = (
    Row(
        "backlog, exactly once",
        "live",
        "{events_per_s:,} events/s, {of_echo:.2f} of the echo floor in the same run ({echo_events_per_s:,}/s), "
        "{worker_cpu_s_per_million:.1f} CPU-s a million, {worker_rss_mb} MB",
    ),
    Row(
        "backlog, exactly once",
        "drain",
        "{events_per_s:,} events/s (echo floor of the same loop in the same run: {echo_events_per_s:,}/s)",
        unless="live",
    ),
    Row(
        "1,000 events/s open loop, produced to visible (read_committed)",
        "latency",
        "p50 {p50_ms} ms, p99 {p99_ms} ms",
    ),
    Row(
        "the same, 60 tenants in one worker, one shared output topic",
        "latency-60-shared",
        "p50 {p50_ms} ms, p99 {p99_ms} ms, kept up",
    ),
    Row(
        "the same, 60 tenants with output topics of their own",
        "latency-60-own",
        "p50 {p50_ms} ms, p99 {p99_ms} ms, kept up",
    ),
    Row(
        "`kill -9` of a worker until its partitions answer again",
        "takeover",
        "{median_s:.2f} s median, {worst_s:.2f} s worst of {kills}",
    ),
    Row(
        "`kill -9` of the supervisor, started again at once",
        "takeover-supervisor",
        "{median_s:.2f} s median, {worst_s:.2f} s worst of {kills}",
    ),
    Row(
        "`kill -9` of the whole run, started again at once",
        "takeover-run",
        "{median_s:.2f} s median, {worst_s:.2f} s worst of {kills}",
    ),
    Row(
        "a machine lost, another run takes over after the session of 10 s",
        "takeover-host",
        "{median_s:.1f} s median, {worst_s:.1f} s worst of {kills}",
    ),
    Row(
        "50 promotions and 50 rollbacks in a row at 5,000 events/s, 3 workers: until all of them serve it",
        "swap",
        "{served_s_median:.2f} s median, {served_s_worst:.2f} s worst; `verify`: {verify}",
    ),
    Row(
        "the same with the store in Redis",
        "swap-redis",
        "{served_s_median:.2f} s median, {served_s_worst:.2f} s worst; `verify`: {verify}",
    ),
    Row(
        "a publish of 60 tenants and 300 predictors over 12 models; a worker compiles and warms it",
        "publish",
        "{publish_s_directory:.1f} s ({publish_s_redis:.1f} s in Redis); {compile_s_live_redis:.1f} s, "
        "{rss_mb_live_redis} MB",
    ),
    Row(
        "twelve faults of a store's Redis under load, three times each: longest time without a score",
        "store-faults",
        "{longest_s:.2f} s; nothing lost, doubled, out of order or taken back",
        '`make store-faults ARGS="--rounds 3"`',
    ),
    Row(
        "the demo on the Handbook: 881,661 events live and shadow, promotion in mid-stream",
        "demo",
        "{missing} missing, {doubled} doubled, {out_of_order} out of order; about {minutes} minutes",
        "`muse-stream demo --events FILE.parquet`",
    ),
)
LOADS = {
    "1,744/s: 55 billion a year": Load(1_744, 60, 300, 12, shared_outputs=True),
    "100,000/s": Load(100_000, 60, 300, 12, shared_outputs=True, machines=4),
    "1,000,000/s": Load(1_000_000, 100, 500, 5, shared_outputs=True, machines=4),
}
"""The loads that docs/capacity.md works."""

BLOCK = re.compile(r"(<!-- perf ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def measured(found: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the README's table."""
    stored = results.newest() if found is None else found
    lines = ["| what | figure | command |", "|---|---|---|"]
    for row in ROWS:
        if row.scenario in stored and row.unless not in stored:
            command = row.command or f"`make perf ARGS={row.scenario}`"
            lines.append(f"| {row.what} | {row.text.format(**stored[row.scenario])} | {command} |")
    return "\n".join(lines) + "\n"


def constants() -> str:
    """Return what `muse-stream plan` computes with."""
    lines = [f"| {one.what} | {one.value:g} {one.unit} | `{one.command}` |" for one in MEASURED.values()]
    return "\n".join(["| what | figure | command |", "|---|---|---|", *lines]) + "\n"


def paces() -> str:
    """Return what a worker does at steady rates."""
    lines = [f"| {one.events_per_s:,.0f} | {one.p50_ms:g} | {one.p99_ms:g} | {one.cores:.0%} |" for one in PACES]
    head = ["| events/s of one worker | p50, ms | p99, ms | of a core |", "|---|---|---|---|"]
    return "\n".join([*head, *lines]) + "\n"


def worked() -> str:
    """Return the plans of three loads beside each other."""
    plans = [plan(load).figures for load in LOADS.values()]
    lines = [f"| | {' | '.join(LOADS)} |", "|---" * (len(LOADS) + 1) + "|"]
    for key in dict.fromkeys(key for figures in plans for key in figures):
        what = next(figures[key].what for figures in plans if key in figures)
        lines.append(f"| {what} | {' | '.join(_cells(key, plans))} |")
    return "\n".join(lines) + "\n"


def _cells(key: str, plans: list[dict[str, Any]]) -> Iterator[str]:
    for figures in plans:
        one = figures.get(key)
        if one is None:
            yield "never measured"
        else:
            yield f"{one.shown()}" + ("" if one.basis == "measured" else f" ({one.basis})")


TABLES = {"measured": measured, "constants": constants, "paces": paces, "worked": worked}
DOCUMENTS = (results.PROJECT / "README.md", results.PROJECT / "docs" / "capacity.md")


def filled(text: str) -> str:
    """Return a document with its tables made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found[2]]()}{found[4]}", text)


def write() -> list[Path]:
    """Put all tables into their documents; returns those that changed."""
    changed = []
    for path in DOCUMENTS:
        old = path.read_text(encoding="utf-8")
        if (new := filled(old)) != old:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed
