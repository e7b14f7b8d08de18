"""Where partitions end: questions that need no broker. With dropped markers: tests/worker/test_recovery.py."""

from collections.abc import Iterator

import pytest

from muse_stream.config import KafkaSettings
from muse_stream.errors import Retriable
from muse_stream.kafka.partition_ends import End, Ends
from muse_stream.worker.open_transactions import OpenTransactionWatch
from tests.worker.doubles import CountingMeter, ListLog


@pytest.fixture
def nowhere() -> Iterator[Ends]:
    """No broker is asked: whoever asks one waits for seconds and raises."""
    ends = Ends(KafkaSettings(bootstrap="127.0.0.1:1"), "group")
    yield ends
    ends.close()


def test_nothing_is_asked_about_no_partition(nowhere: Ends) -> None:
    """A shadow worker has one output topic: there is none beside it in which an event may have its answer.

    librdkafka calls such a question an invalid argument, and the worker ended, again and again.
    """
    assert nowhere.look([]) == {}
    assert nowhere.since({}, 0) == {}
    assert nowhere.latest({}, 10) == {}
    assert nowhere.undecided({}) == {}
    assert nowhere.signatures([]) == {}
    assert nowhere.high([]) == {}
    assert nowhere.wait_stable({}, 0.0) == {}
    assert nowhere.between({}) == {}


def test_a_partition_that_loses_its_leader_is_not_taken_for_decided(
    nowhere: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    steady, lost, open_still = ("t", 0), ("t", 1), ("t", 2)
    looks = [
        {steady: End(9, 9), lost: End(3, 9), open_still: End(3, 9)},
        {open_still: End(3, 12)},
    ]
    monkeypatch.setattr(nowhere, "look", lambda _places, _patience_s=0.0: looks.pop(0) if len(looks) > 1 else looks[0])
    seen, waiting = nowhere.wait_decided([steady, lost, open_still], patience_s=0.05)
    assert seen == {steady, open_still}
    assert waiting == {open_still: End(3, 9)}


def test_a_look_that_comes_late_finds_it_closed(nowhere: Ends) -> None:
    """The watch of a worker that ends may begin to look a moment after: it ended with a traceback."""
    nowhere.close()
    with pytest.raises(Retriable, match="closed"):
        nowhere.look([("t", 0)])
    assert nowhere.committed([("t", 0)]) == {}
    OpenTransactionWatch(nowhere, lambda: [("t", 0)], CountingMeter(), ListLog()).look()
