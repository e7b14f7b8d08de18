"""Times, durations and offsets on the command line."""

import time

import pytest
import typer

from muse_stream.cli.moments import moment_ms, offsets


@pytest.mark.parametrize(
    ("text", "ago_s"), [("90s", 90), ("30m", 1_800), ("1.5h", 5_400), ("7d", 604_800), ("2w", 1_209_600), ("0s", 0)]
)
def test_a_duration_is_so_long_ago(text: str, ago_s: int) -> None:
    before = time.time_ns() // 1_000_000
    found = moment_ms(text, "--since")
    assert before <= found + ago_s * 1_000 <= time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-01-02T03:04:05Z", 1_767_323_045_000),
        ("2026-01-02T03:04:05", 1_767_323_045_000),
        ("2026-01-02 04:04:05+01:00", 1_767_323_045_000),
        ("2026-01-02", 1_767_312_000_000),
        ("1969-01-01", 0),
        ("999999w", 0),
    ],
)
def test_a_time_without_a_zone_is_utc(text: str, ms: int) -> None:
    assert moment_ms(text, "--since") == ms


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7 days", "-7d", "2026-13-01", "2999-01-01"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        moment_ms(text, "--since")
    assert repr(text) in str(caught.value)


def test_offsets_of_all_partitions_or_of_each() -> None:
    assert offsets(None, "--from-offset") is None
    assert offsets(["7"], "--from-offset") == 7
    assert offsets(["0=7", "3=0"], "--from-offset") == {0: 7, 3: 0}
    for wrong in (["x"], ["7", "8"], ["0=7", "0=8"], ["0=-1"], ["=1"]):
        with pytest.raises(typer.BadParameter):
            offsets(wrong, "--from-offset")
