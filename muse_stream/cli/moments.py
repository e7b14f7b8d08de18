"""Moments on the command line: an ISO 8601 time, or how long ago."""

import re
import time
from datetime import UTC, datetime
from typing import Annotated

import typer

UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
Since = Annotated[str | None, typer.Option(metavar="TIME|DURATION", help="Records from then on: a time, or 12h, 7d.")]
Until = Annotated[str | None, typer.Option(metavar="TIME|DURATION", help="Records before that.")]
FromOffset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OFFSET|PARTITION=OFFSET",
        help="Records of events from this offset on, in all partitions, or for each partition its own.",
    ),
]
Settle = Annotated[float, typer.Option(min=0.0, help="Seconds to wait for transactions that are open.")]
AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def moment_ms(text: str, option: str) -> int:
    """Return milliseconds since 1970; a time without a zone is UTC. Raises a usage error that says what is right."""
    now_ms = time.time_ns() // 1_000_000
    if ago := AGO.fullmatch(text):
        return max(0, now_ms - int(float(ago[1]) * UNITS_S[ago[2]] * 1_000))
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no time and no duration; a time is 2026-11-26T08:00:00Z (UTC where no zone is given), "
            "a duration is 90s, 30m, 12h, 7d or 2w: so long ago",
            param_hint=option,
        ) from None
    stamp = int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000)
    if stamp > now_ms:
        raise typer.BadParameter(f"'{text}' lies in the future", param_hint=option)
    return max(0, stamp)


def duration_s(text: str, option: str) -> float:
    """Return seconds of a duration such as 90s, 10m or 7d; raises a usage error, for nothing and less too."""
    found = AGO.fullmatch(text)
    seconds = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    if seconds <= 0:
        right = "a duration is 90s, 30m, 12h, 7d or 2w, and more than nothing"
        raise typer.BadParameter(f"'{text}' is no duration; {right}", param_hint=option)
    return seconds


def offsets(given: list[str] | None, option: str) -> int | dict[int, int] | None:
    """Return `N`, for all partitions, or `PARTITION=N` options as a dict; raises a usage error for anything else."""
    if not given:
        return None
    if len(given) == 1 and given[0].isdecimal():
        return int(given[0])
    found: dict[int, int] = {}
    for text in given:
        partition, _, offset = text.partition("=")
        if not (partition.isdecimal() and offset.isdecimal()):
            right = "give an offset for all partitions, or PARTITION=OFFSET once for each"
            raise typer.BadParameter(f"'{text}' is no offset; {right}", param_hint=option)
        if int(partition) in found:
            raise typer.BadParameter(f"partition {partition} is given twice", param_hint=option)
        found[int(partition)] = int(offset)
    return found
