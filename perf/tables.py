"""The tables that documents show: made of stored results and of the constants of `muse-stream plan`.

They stand between `<!-- perf NAME -->` and `<!-- end -->`. `python -m perf table` prints the README's two, `--write`
puts all of them into their documents; a test holds the documents against them.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from muse_stream.commands.plan import MEASURED, PACES, Load, plan
from perf import results


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure has to keep, in one run."""

    figure: str
    sign: Literal["<=", ">="]
    limit: float
    unit: str = ""

    def shown(self, figures: Mapping[str, Any]) -> str:
        """Return the bound, and that it is missed where it is."""
        kept = figures[self.figure] <= self.limit if self.sign == "<=" else figures[self.figure] >= self.limit
        return f"{self.sign} {self.limit:g}{self.unit}" + ("" if kept else " (**missed**)")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table; it is there when a result of the scenario is stored that has its figures."""

    what: str
    scenario: str
    text: str
    """Filled with the figures."""
    bounds: tuple[Bound, ...] = ()
    command: str = ""
    unless: str = ""
    """Left out when that scenario has a result."""

    def line(self, stored: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Return the line, or None where there is none."""
        figures = stored.get(self.scenario)
        if figures is None or self.unless in stored:
            return None
        command = self.command or f"`make perf ARGS={self.scenario}`"
        try:
            what, text = self.what.format(**figures), self.text.format(**figures)
            bounds = "; ".join(one.shown(figures) for one in self.bounds)
        except KeyError:  # an older result, of fewer figures
            return None
        return f"| {what} | {bounds} | {text} | {command} |"


BOUNDED = (
    Row(
        "`live`: a backlog, exactly once, onnxruntime",
        "live",
        "{events_per_s:,} events/s: {of_echo:.2f} of echo ({echo_events_per_s:,}), {of_kafka_streams:.1f} times Kafka "
        "Streams, {worker_cpu_s_per_million:.1f} CPU-s a million (broker {broker_cpu_s_per_million:.1f}), "
        "{worker_rss_mb} MB",
        (
            Bound("of_echo", ">=", 0.66, " of echo"),
            Bound("of_kafka_streams", ">=", 3.6, " times Kafka Streams"),
            Bound("worker_cpu_s_per_million", "<=", 4.6, " CPU-s a million"),
        ),
    ),
    Row(
        "backlog, exactly once",
        "drain",
        "{events_per_s:,} events/s (echo floor of the same loop in the same run: {echo_events_per_s:,}/s)",
        command="`make perf ARGS=live` since",
        unless="live",
    ),
    Row(
        "the same, trees as native code",
        "live",
        "{compiled_events_per_s:,} events/s: {compiled_of_echo:.2f} of echo, {compiled_of_kafka_streams:.1f} times "
        "Kafka Streams, {compiled_worker_cpu_s_per_million:.1f} CPU-s a million, {compiled_worker_rss_mb} MB",
        (
            Bound("compiled_of_echo", ">=", 0.8, " of echo"),
            Bound("compiled_of_kafka_streams", ">=", 4.5, " times Kafka Streams"),
        ),
    ),
    Row(
        "peer: Kafka Streams {kafka_streams_version} (Java), exactly once v2, one thread",
        "live",
        "{kafka_streams_events_per_s:,} events/s, {kafka_streams_worker_cpu_s_per_million:.1f} CPU-s a million, "
        "{kafka_streams_worker_rss_mb} MB",
    ),
    Row(
        "peer: quixstreams {quixstreams_version}, exactly once",
        "peers",
        "{quixstreams_events_per_s:,} events/s, {quixstreams_worker_cpu_s_per_million:.0f} CPU-s a million; "
        "muse_stream {of_quixstreams:.0f} times that",
    ),
    Row(
        "peer: the per-event loop ({per_event_version}, fastavro, onnxruntime), a transaction a batch",
        "peers",
        "{per_event_events_per_s:,} events/s, {per_event_worker_cpu_s_per_million:.0f} CPU-s a million; "
        "muse_stream {of_per_event:.0f} times that",
    ),
    Row(
        "`live-decimal`: decimal amounts, UUIDs, timestamps, an enum; against `live`",
        "live-decimal",
        "{events_per_s:,} events/s: {of_live:.2f} of live, {of_echo:.2f} of echo",
        (Bound("of_live", ">=", 0.7),),
    ),
    Row(
        "`deep`: 4 experts of 400 trees with 63 leaves and a meta-model; native code against onnxruntime",
        "deep",
        "{compiled_events_per_s:,} against {events_per_s:,} events/s: {compiled_of_deep:.1f} times",
        (Bound("compiled_of_deep", ">=", 2.5, " times"),),
    ),
    Row(
        "`tenants`: 100 tenants, 500 predictors over 5 models, shared outputs; against 1 tenant",
        "tenants",
        "{events_per_s:,} events/s: {of_one:.2f}; with own outputs {own_events_per_s:,}: {own_of_one:.2f}",
        (Bound("of_one", ">=", 0.8),),
    ),
    Row(
        "p99 of the same at 1,000 events/s, shared outputs; against 1 tenant",
        "tenants-latency",
        "p50 {p50_ms_shared} ms, p99 {p99_ms_shared} ms: {p99_shared_of_one:.2f}",
        (Bound("p99_shared_of_one", "<=", 2.0),),
    ),
    Row(
        "the same with 100 own output topics, one worker",
        "tenants-latency",
        "keeps up; p50 {p50_ms_own} ms, p99 {p99_ms_own} ms",
        (Bound("p99_ms_own", "<=", 160.0, " ms"),),
    ),
    Row(
        "`shadow`: CPU per event of a worker with 3 shadows on the live models; against a live one",
        "shadow",
        "{shared_cpu_of_live:.2f}; with a model of its own {cpu_of_live:.2f}",
        (Bound("shared_cpu_of_live", "<=", 1.5),),
    ),
    *(
        Row(
            f"`latency`: {rate:,} events/s, open loop, produced to visible (read_committed)",
            "latency",
            "p50 {p50_ms_N} ms, p90 {p90_ms_N}, p99 {p99_ms_N}, p99.9 {p999_ms_N}, max {max_ms_N}; "
            "{cpu_percent_N} % of a core".replace("_N}", f"_{rate}}}"),
            bounds,
        )
        for rate, bounds in (
            (100, (Bound("cpu_percent_100", "<=", 12.0, " % of a core"),)),
            (
                1_000,
                (
                    Bound("p50_ms_1000", "<=", 10.0, " ms"),
                    Bound("p99_ms_1000", "<=", 20.0, " ms"),
                    Bound("max_ms_1000", "<=", 100.0, " ms"),
                    Bound("cpu_percent_1000", "<=", 30.0, " % of a core"),
                ),
            ),
            (5_000, (Bound("p99_ms_5000", "<=", 30.0, " ms"),)),
            (20_000, (Bound("p99_ms_20000", "<=", 50.0, " ms"),)),
        )
    ),
    Row(
        "1,000 events/s open loop, produced to visible (read_committed)", "latency", "p50 {p50_ms} ms, p99 {p99_ms} ms"
    ),
    Row(
        "`idle`: supervisor, worker and spare with nothing to do",
        "idle",
        "{cpu_percent} % of a core, {rss_mb} MB (what they share counted for each)",
        (Bound("cpu_percent", "<=", 0.5, " % of a core"),),
    ),
    Row(
        "`swap-each-second`: a new generation each second at 1,000 events/s; p99 against the steady one",
        "swap-each-second",
        "{p99_ms_swapping} ms against {p99_ms_steady}: {p99_swapping_of_steady:.2f}; {generations_that_answered} "
        "generations answered; none of {events:,} events lost or doubled",
        (Bound("p99_swapping_of_steady", "<=", 2.0),),
    ),
    Row(
        "`skew-latency`: p99 of cold tenants while a hot one drains {hot_events:,} events",
        "skew-latency",
        "{cold_p99_ms} ms (p50 {cold_p50_ms})",
        (Bound("cold_p99_ms", "<=", 250.0, " ms"),),
    ),
    Row(
        "`start`: first score after the command; imports of a worker",
        "start",
        "{first_score_median_s:.2f} s median, {first_score_worst_s:.2f} s worst; {worker_import_cpu_s:.2f} CPU-s",
        (
            Bound("first_score_median_s", "<=", 2.0, " s"),
            Bound("worker_import_cpu_s", "<=", 0.8, " CPU-s"),
        ),
    ),
    Row(
        "`backlog`: {events:,} events, resident memory",
        "backlog",
        "{rss_mb_most} MB at most; second tenth {rss_mb_second_tenth}, last {rss_mb_last_tenth}; "
        "{events_per_s:,} events/s",
        (Bound("rss_mb_most", "<=", 450.0, " MB"), Bound("rss_growth_percent", "<=", 5.0, " % growth")),
    ),
)
"""What `make perf` measures: the README's table."""


def _beside(rate: int) -> str:
    """Return what `latency-peers` says at so many events/s."""
    each = {"worker": "", "echo": "the loop ", "kafka_streams": "Kafka Streams "}
    return "; ".join(
        f"{shown}p50 {{{name}_p50_ms_{rate}}}, p99 {{{name}_p99_ms_{rate}}} ms, {{{name}_cpu_percent_{rate}}} % CPU"
        for name, shown in each.items()
    )


LONGER = (
    Row(
        "`live` in turns: a bare scorer of columns in the same loop (no check, no tenant, no route, no metric)",
        "live-limits",
        "onnxruntime {columnar_of_echo:.2f} of echo, muse_stream {of_echo:.2f}; "
        "native code {columnar_native_of_echo:.2f}, muse_stream {compiled_of_echo:.2f}",
    ),
    Row(
        "the same: the model alone in the loop, nothing decoded or encoded",
        "live-limits",
        "onnxruntime {model_of_echo:.2f} of echo; native code {model_native_of_echo:.2f}",
    ),
    *(
        Row(
            f"{rate:,} events/s in turns: worker, its loop with nothing to score, Kafka Streams (commit each 10 ms)",
            "latency-peers",
            _beside(rate),
        )
        for rate in (100, 1_000, 5_000, 20_000)
    ),
    Row(
        "1,000 events/s open loop, 60 tenants in one worker, one shared output topic",
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
        "a machine lost, another run takes over after the session of 9 s",
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
        command='`make store-faults ARGS="--rounds 3"`',
    ),
    Row(
        "the demo on the Handbook: 881,661 events live and shadow, promotion in mid-stream",
        "demo",
        "{missing} missing, {doubled} doubled, {out_of_order} out of order; about {minutes} minutes",
        command="`muse-stream demo --events FILE.parquet`",
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
    """Return the README's table of what `make perf` measures."""
    stored = results.newest() if found is None else found
    lines = [line for row in BOUNDED if (line := row.line(stored)) is not None]
    return "\n".join(["| what | bound | measured | command |", "|---|---|---|---|", *lines]) + "\n"


def longer(found: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the README's table of what takes a command of its own."""
    stored = results.newest() if found is None else found
    lines = [line.replace(" |  | ", " | ") for row in LONGER if (line := row.line(stored)) is not None]
    return "\n".join(["| what | measured | command |", "|---|---|---|", *lines]) + "\n"


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


TABLES = {"measured": measured, "longer": longer, "constants": constants, "paces": paces, "worked": worked}
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
