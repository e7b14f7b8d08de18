"""`status`: what is current, who serves it, what waits, and what is wrong."""

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from muse_stream.cli.options import Json, Store
from muse_stream.cli.output import console, show_json, show_line, table, text_line
from muse_stream.cli.store_option import ConfigCommand, StoreOption

if TYPE_CHECKING:
    from rich.console import RenderableType

    from muse_stream.commands.status import Status, TenantLine
    from muse_stream.commands.verdicts import TenantVerdict

WATCH_S = "2"
"""Seconds between two looks, where `--watch` is given none."""
LETTERS = 3
"""Reasons of dead letters that a line of the table names."""


class StatusCommand(ConfigCommand):
    """A store may be given as elsewhere; `--watch` may stand without a number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the seconds where `--watch` has none."""
        words: list[str] = []
        for place, word in enumerate(args):
            words.append(word)
            if word == "--watch" and not _is_number("".join(args[place + 1 : place + 2])):
                words.append(WATCH_S)
        return super().parse_args(ctx, words)


def _is_number(word: str) -> bool:
    return word.replace(".", "", 1).isdigit()


Watch = Annotated[
    float | None,
    typer.Option(
        "--watch", min=0.2, max=3600, metavar="[SECONDS]", help="Go on, and look again every so often (2 seconds)."
    ),
]
MaxAge = Annotated[
    float | None,
    typer.Option("--max-age", min=0, metavar="SECONDS", help="An event that waits for longer than this is a finding."),
]


def status(
    store: Store, watch: Watch = None, max_age: MaxAge = None, as_json: Json = False, _store: StoreOption = None
) -> None:
    """Show what is current and who made it so, which workers serve it, what waits of each tenant, and what is wrong.

    Reads the generation store alone, where every worker tells of itself every two seconds: no Kafka, no metrics system.
    A worker that has told nothing for 10 seconds is silent; after five minutes it is no longer shown. Where the store
    is away, it says what this machine saw last.

    Examples:

    ```
    muse-stream status /var/lib/muse/store
    muse-stream status --store redis://muse-worker@redis:6379 --watch
    muse-stream status /var/lib/muse/store --watch 10
    muse-stream status /var/lib/muse/store --json --max-age 60     # for a monitor
    ```

    Exit codes, for a monitor: 0 all is well; 1 something was found (the store is away, a worker is silent, unready or
    refuses the current generation, a lane has no live worker, a tenant is paused by a fault, events wait longer than
    --max-age, `watch` found an alert rate that is not what was promised), and the findings say what; 2 wrong usage. A
    tenant that an operator has paused is no finding.
    """
    from muse_stream.commands.status import facts, look  # noqa: PLC0415
    from muse_stream.control import open_store  # noqa: PLC0415

    with closing(open_store(store)) as opened:
        if watch is None:
            found = look(opened, max_age_s=max_age)
            show_json(facts(found)) if as_json else _print(found)
            raise typer.Exit(1 if found.findings else 0)
        try:
            _go_on((look(opened, max_age_s=max_age) for _ in _ticks(watch)), as_json=as_json)
        except KeyboardInterrupt:  # how it ends
            raise typer.Exit(0) from None


def _ticks(every_s: float) -> Iterator[None]:
    while True:
        started = time.monotonic()
        yield
        time.sleep(max(0.0, every_s - (time.monotonic() - started)))


def _go_on(looks: "Iterator[Status]", *, as_json: bool) -> None:
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from muse_stream.commands.status import facts  # noqa: PLC0415

    if as_json or not sys.stdout.isatty():
        for found in looks:
            show_line(facts(found)) if as_json else _print(found)
            sys.stdout.flush()
        return
    with Live(console=console(), auto_refresh=False, screen=True) as live:
        for found in looks:
            now = text_line(f"{datetime.now():%H:%M:%S}; Ctrl-C ends", "dim")  # noqa: DTZ005 - the clock on the wall
            live.update(Group(now, *_parts(found)), refresh=True)


def _print(found: "Status") -> None:
    out = console()
    for part in _parts(found):
        out.print(part)


def _parts(found: "Status") -> "Iterator[RenderableType]":
    """Yield what is shown, what is wrong first."""
    yield text_line(f"{found.store}: {_current(found)}", "bold")
    yield text_line(found.convergence, "green" if not found.findings else "")
    for finding in found.findings:
        yield text_line(f"! {finding.text}", "red")
    if found.lanes:
        yield table("lanes", [_lane(found, place) for place in range(len(found.lanes))], right=LANE_NUMBERS)
        yield table("workers", [_worker(found, place) for place in range(len(found.workers))], right=WORKER_NUMBERS)
    if found.tenants:
        yield table("tenants", list(_tenants(found)), right=("lag", "oldest", "shadow lag", "shadow oldest"))
    if found.watched is not None:
        rows = [_verdict(one) for one in found.watched.verdicts]
        title = f"promotions, as `watch` saw them at {found.watched.at} (policy {found.watched.policy})"
        yield table(title, rows, right=VERDICT_NUMBERS) if rows else text_line(f"{title}: none to look after", "bold")


def _current(found: "Status") -> str:
    one = found.current
    if one is None:
        return "nothing is current"
    when = f" since {one.moved.isoformat(sep=' ', timespec='seconds')}" if one.moved else ""
    by = f" by {one.author}" if one.author else ""
    why = one.message or one.why
    last = ", as this machine saw it last" if one.from_copy else ""
    signed = f", signed by {one.signed_by}" if one.signed_by else ""
    if one.moved_signed_by != one.signed_by:
        signed += f", made current by {one.moved_signed_by or 'nobody who signed'}"
    return f"generation {one.number}{when}{by}" + (f' ("{why}")' if why else "") + signed + last


LANE_NUMBERS = ("workers", "rate", "lag", "oldest")
WORKER_NUMBERS = ("generation", "rate", "lag", "oldest", "memory", "seen")


VERDICT_NUMBERS = ("generation", "threshold", "promised", "live", "before", "events")


def _verdict(one: "TenantVerdict") -> dict[str, Any]:
    return {
        "generation": one.generation,
        "predictor": one.predictor,
        "tenant": one.tenant,
        "threshold": f"{one.threshold:g}",
        "promised": f"{100 * one.promised:.3g} %",
        "live": f"{100 * one.new:.3g} %",
        "before": f"{100 * one.old:.3g} %",
        "events": f"{one.events:,}",
        "": one.state,
    }


def _lane(found: "Status", place: int) -> dict[str, Any]:
    one = found.lanes[place]
    return {
        "lane": one.lane,
        "role": one.role,
        "workers": f"{one.converged} of {one.workers}",
        "rate": f"{one.rate:,.0f}/s",
        "lag": _count(one.lag),
        "oldest": _time(one.age_s),
    }


def _worker(found: "Status", place: int) -> dict[str, Any]:
    one = found.workers[place]
    restarts = f"{one.memory_restarts} restarts because of memory" if one.memory_restarts else ""
    last = f"last error, {one.error_at[:19]}: {one.error}" if one.error else ""
    slow = f"not compiled here: {one.slow}" if one.slow else ""
    return {
        "worker": one.worker,
        "role": one.role,
        "lane": one.lane,
        "state": one.state,
        "generation": "" if one.generation is None else one.generation,
        "rate": f"{one.rate:,.0f}/s",
        "lag": _count(one.lag),
        "oldest": _time(one.age_s),
        "memory": f"{one.memory_bytes / 1e6:,.0f} MB",
        "seen": f"{_time(one.seen_s) or '0 s'} ago",
        "notes": "; ".join(part for part in (one.problem, restarts, slow, last) if part),
    }


def _tenants(found: "Status") -> Iterator[dict[str, Any]]:
    """Yield a row for each tenant, those in trouble first: a small terminal shows the beginning."""
    rows: dict[str, dict[str, TenantLine]] = {}
    for one in found.tenants:
        rows.setdefault(one.tenant, {})[one.role] = one
    trouble = {
        tenant: max((_trouble(one) for one in roles.values()), default=(False, 0.0)) for tenant, roles in rows.items()
    }
    shadows = any("shadow" in roles for roles in rows.values())
    for tenant in sorted(rows, key=lambda name: (not trouble[name][0], -trouble[name][1], name)):
        yield _tenant(tenant, rows[tenant], shadows=shadows)


def _trouble(one: "TenantLine") -> tuple[bool, float]:
    return bool(one.paused) or one.lag is None, one.age_s or 0.0


def _tenant(tenant: str, roles: "dict[str, TenantLine]", *, shadows: bool) -> dict[str, Any]:
    live, shadow = roles.get("live"), roles.get("shadow")
    first = live or shadow
    assert first is not None  # noqa: S101  # a row is made of one of them
    row: dict[str, Any] = {
        "tenant": tenant,
        "lane": first.lane,
        "lag": _count(live.lag) if live else "",
        "oldest": _time(live.age_s) if live else "",
    }
    if shadows:
        row |= {
            "shadow lag": _count(shadow.lag) if shadow else "",
            "shadow oldest": _time(shadow.age_s) if shadow else "",
        }
    letters = list((live.dead_letters if live else {}).items())
    more = f", {len(letters) - LETTERS} reasons more" if len(letters) > LETTERS else ""
    paused = {one.paused: role for role, one in roles.items() if one.paused}
    one_reason = len(paused) == 1
    row["dead letters"] = ", ".join(f"{count:,} {reason}" for reason, count in letters[:LETTERS]) + more
    row["paused"] = "; ".join(why if one_reason else f"{role}: {why}" for why, role in paused.items())
    return row


def _count(lag: int | None) -> str:
    return "unknown" if lag is None else f"{lag:,}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s" if 0 < seconds < 10 else f"{seconds:.0f} s" if seconds else ""
