"""A log of what may happen with every event is bounded, whatever happens."""

from typing import Any

from muse_stream.telemetry.bounded import MOST, BoundedLog


class Lines:
    """Collects what is written, at a time that the test sets."""

    def __init__(self) -> None:
        self.now, self.lines = 0.0, list[tuple[str, dict[str, Any]]]()
        self.log = BoundedLog(self.write, every_s=60, clock=lambda: self.now)

    def write(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))


def test_the_first_is_written_at_once_and_the_others_are_counted_in_the_next_line() -> None:
    lines = Lines()
    for second in range(130):
        lines.now = float(second)
        lines.log.note("dead_letters", "a", 2, reason="undecodable")
    assert lines.lines == [
        ("dead_letters", {"events": 2, "reason": "undecodable"}),
        ("dead_letters", {"events": 120, "reason": "undecodable"}),
        ("dead_letters", {"events": 120, "reason": "undecodable"}),
    ]


def test_keys_do_not_silence_each_other() -> None:
    lines = Lines()
    for key in ("a", "b", "a"):
        lines.log.note("dead_letters", key, topic=key)
    assert [facts["topic"] for _, facts in lines.lines] == ["a", "b"]


def test_what_is_remembered_is_bounded() -> None:
    lines = Lines()
    for number in range(10 * MOST):
        lines.log.note("odd", number)
    assert len(lines.log._next) <= MOST and len(lines.log._unsaid) <= MOST
