"""A dead letter's headers: the record's own first and untouched, then where it was and why it is here."""

from muse_stream.errors import Reason, Rejected, Stage
from muse_stream.telemetry.bounded import BoundedLog
from muse_stream.worker import dead_letter
from muse_stream.worker.batch import DeadLetter, Header, Records
from tests.worker.doubles import raw


def test_own_headers_first_then_provenance() -> None:
    own: list[Header] = [("trace", b"\x00\xff"), ("trace", b"again"), ("empty", None)]
    batch = raw([b"one", b"two"], partitions=[3, 4], headers=[[], own])
    rejected = Rejected(1, Reason.MISSING_ID, Stage.VALIDATE, "no id")
    found = dead_letter.headers(batch, rejected, generation=7, attempt=42, worker="host-0")
    assert found[:3] == own
    assert dict(found[3:]) == {
        "muse.source.topic": b"events",
        "muse.source.partition": b"4",
        "muse.source.offset": b"101",
        "muse.source.timestamp": b"1700000000001",
        "muse.reason": b"missing-id",
        "muse.stage": b"validate",
        "muse.message": b"no id",
        "muse.generation": b"7",
        "muse.attempt": b"42",
        "muse.worker": b"host-0",
    }
    assert batch.headers()[1] == own, "the batch's own list is not grown"


def test_whose_it_is_stands_beside_it_where_it_is_known() -> None:
    rejected = Rejected(0, Reason.NO_ROUTE, Stage.ROUTE, "")
    found = dead_letter.headers(raw([b""]), rejected, generation=1, attempt=1, worker="w", tenant="acme")
    assert found[-1] == ("muse.tenant", b"acme")


def test_the_records_own_headers_are_told_from_ours() -> None:
    """Ours begin at the last source topic: a producer's `muse.reason` is its own, and so are older ones of ours."""
    own: list[Header] = [("muse.reason", b"mine"), ("trace", None), ("muse.source.topic", b"before")]
    rejected = Rejected(0, Reason.NO_ROUTE, Stage.ROUTE, "why")
    found = dead_letter.headers(raw([b""], headers=[own]), rejected, generation=1, attempt=1, worker="w", tenant="a")
    divided = dead_letter.divided([*found, ("muse.copied-by", b"2")])
    assert divided is not None
    assert divided[0] == own
    assert (divided[1]["reason"], divided[1]["source.topic"], divided[1]["tenant"]) == ("no-route", "events", "a")
    assert dead_letter.divided([("trace", b"1")]) is None


def test_headers_of_strangers_are_no_source() -> None:
    names = ("source.topic", "source.partition", "source.offset", "attempt")
    assert dead_letter.source_of({f"muse.{name}": b"\xff" for name in names}) is None


def test_the_message_is_bounded() -> None:
    rejected = Rejected(0, Reason.SCORING_ERROR, Stage.SCORE, "é" * 10_000)
    found = dict(dead_letter.headers(raw([b""]), rejected, generation=1, attempt=1, worker="w"))
    assert found["muse.message"] == ("é" * dead_letter.MESSAGE_LIMIT).encode()


def test_a_replayed_dead_letter_keeps_its_first_provenance() -> None:
    batch = raw([b"x"], headers=[[("muse.source.offset", b"5")]])
    rejected = Rejected(0, Reason.UNDECODABLE, Stage.DECODE, "")
    found = dead_letter.headers(batch, rejected, generation=1, attempt=1, worker="w")
    assert [value for name, value in found if name == "muse.source.offset"] == [b"5", b"100"]


def test_dead_letters_are_logged_once_a_minute_for_each_topic_and_reason() -> None:
    lines: list[dict[str, object]] = []
    log = BoundedLog(lambda event, **facts: lines.append({"event": event, **facts}))
    batch = raw([b"one", b"two", b"three"], partitions=[3, 4, 5])
    undecodable, nameless = Reason.UNDECODABLE, Reason.MISSING_ID
    letters = [
        DeadLetter(Rejected(row, reason, Stage.DECODE, f"why {row}"), "dlq", "acme")
        for row, reason in enumerate((undecodable, nameless, undecodable))
    ]
    for _ in range(100):
        dead_letter.note(log, dead_letter.refusals(batch, Records(dead=letters)))
    assert [(line["reason"], line["events"], line["offset"], line["error"]) for line in lines] == [
        ("undecodable", 2, 100, "why 0"),
        ("missing-id", 1, 101, "why 1"),
    ]
