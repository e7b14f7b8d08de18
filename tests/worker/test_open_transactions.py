"""The watch over last stable offsets, on ends moved by hand."""

from typing import Any

from muse_stream.errors import Retriable
from muse_stream.kafka.partition_ends import End
from muse_stream.worker.open_transactions import HANGING_S, OpenTransactionWatch
from tests.worker.doubles import Clock, CountingMeter, ListLog

PLACE = ("scores", 0)


class Moving:
    """Stands in for `Ends`."""

    def __init__(self) -> None:
        self.ends: dict[tuple[str, int], End] = {PLACE: End(5, 5)}
        self.away = False

    def look(self, _places: Any) -> dict[tuple[str, int], End]:
        if self.away:
            raise Retriable("no broker")
        return dict(self.ends)


def made() -> tuple[OpenTransactionWatch, Moving, Clock, ListLog, CountingMeter]:
    ends, clock, log, meter = Moving(), Clock(), ListLog(), CountingMeter()
    return OpenTransactionWatch(ends, lambda: [PLACE], meter, log, clock), ends, clock, log, meter  # type: ignore[arg-type]


def test_what_stands_still_for_longer_than_a_transaction_lasts_is_said_once() -> None:
    watch, ends, clock, log, meter = made()
    ends.ends[PLACE] = End(5, 9)
    for _ in range(12):
        watch.look()
        clock.now += 2.0
    (said,) = log.said("transaction_hanging")
    assert (said["topic"], said["partition"]) == PLACE
    assert (said["last_stable_offset"], said["high_watermark"]) == (5, 9)
    assert HANGING_S <= said["age_s"] < HANGING_S + 3
    assert meter.hangs[-1] == 1
    assert watch.hanging() == {PLACE: End(5, 9)}
    ends.ends[PLACE] = End(9, 9)
    watch.look()
    assert log.said("transaction_no_longer_hanging") == [{"topic": "scores", "partition": 0}]
    assert (meter.hangs[-1], watch.hanging()) == (0, {})


def test_what_moves_is_never_said_though_something_is_always_open() -> None:
    watch, ends, clock, log, meter = made()
    for number in range(30):
        ends.ends[PLACE] = End(number, number + 4)
        watch.look()
        clock.now += 2.0
    assert log.events == []
    assert set(meter.hangs) == {0}
    assert watch.standing() == {}


def test_standing_needs_two_looks() -> None:
    watch, ends, clock, _log, _meter = made()
    ends.ends[PLACE] = End(5, 9)
    watch.look()
    clock.now += 60
    assert watch.standing() == {}
    watch.look()
    assert watch.standing() == {PLACE: End(5, 9)}


def test_a_broker_that_is_away_tells_nothing() -> None:
    watch, ends, clock, log, _meter = made()
    ends.ends[PLACE] = End(5, 9)
    watch.look()
    ends.away = True
    for _ in range(20):
        clock.now += 2.0
        watch.look()
    assert log.events == []
    ends.away = False
    watch.look()
    assert len(log.said("transaction_hanging")) == 1
