"""`dlq`: letters are counted and shown as they are; their events are sent again as they were, each once."""

import time
from collections import defaultdict

import pytest
from confluent_kafka import Producer

from muse_stream.cli.main import main
from muse_stream.errors import Reason
from muse_stream.testing import ToSend, produce
from tests.commands.letters import PARTITIONS, START_MS, Desk, headers_of


def values(desk: Desk) -> list[bytes | None]:
    return [value for value, _ in desk.buried]


def test_list_counts_by_reason_and_shows_the_newest(desk: Desk) -> None:
    desk.bury(5, Reason.UNKNOWN_SCHEMA)
    desk.bury(3, Reason.MISSING_FEATURE)
    found = desk.json("list", "--sample", "2")
    counted = [(row["reason"], row["letters"], row["waiting"]) for row in found["reasons"]]
    assert counted == [("unknown-schema", 5, 5), ("missing-feature", 3, 3)]
    assert [letter["message"] for letter in found["sample"]] == ["letter 6", "letter 7"]
    assert [(row["oldest"], row["newest"]) for row in found["reasons"]] == [
        (desk.began, desk.began + 4),
        (desk.began + 5, desk.began + 7),
    ]
    code, out, _ = desk.call("list")
    assert code == 0
    assert "8 dead letters of acme" in out
    assert f"{desk.topic('events')}[1]@7" in out


def test_show_has_everything_of_a_letter(desk: Desk) -> None:
    desk.bury(2, headers=[("region", b"pt"), ("trace", b"\xff"), ("empty", None)])
    desk.bury(1, Reason.MISSING_ID, value=lambda _number: None)
    first, second, tombstone = desk.json("show")
    assert (first["reason"], first["stage"], first["message"]) == ("unknown-schema", "decode", "letter 0")
    assert (second["source"], second["state"], second["replays"]) == (f"{desk.topic('events')}[1]@1", "waiting", 0)
    assert (first["value_hex"], first["value_text"]) == (b"event 0".hex(), "event 0")
    assert (first["_kafka"]["key"], first["key_hex"]) == ("key 0", b"key 0".hex())
    assert first["headers"] == [["region", "pt"], ["trace", "�"], ["empty", None]]
    assert first["event"] is None
    assert "does not begin" in first["undecodable"] or first["undecodable"]
    assert tombstone["value_hex"] is None
    assert [one["reason"] for one in desk.json("show", "--reason", "missing-id")] == ["missing-id"]
    assert [one["message"] for one in desk.json("show", "--limit", "1")] == ["letter 2"]
    code, out, _ = desk.call("show")
    assert code == 0
    for text in ("letter 0", "region=pt", b"event 1".hex(), "a record without a value"):
        assert text in out
    assert desk.call("show", "--reason", "oversize")[2].strip() == "no such dead letters"


def test_an_event_that_can_be_decoded_is_shown_decoded(desk: Desk) -> None:
    rows = desk.folder / "rows.jsonl"
    rows.write_text(
        '{"transaction_id": "x-1", "event_time": 1780000000000, "tenant": "acme", "channel": "pos", "amount": 1.5, '
        '"cross_border": false, "terminal": {"id": "t", "risk_7d": null}, '
        '"customer": {"age": null, "tx_per_day": 0.5}}\n'
    )
    assert main(["produce", str(desk.config), "acme", str(rows)]) == 0
    (event,) = desk.arrived()
    value = event.value()
    desk.bury(1, Reason.NO_ROUTE, value=lambda _number: value)
    (letter,) = desk.json("show")
    assert (letter["event"]["transaction_id"], letter["event"]["amount"]) == ("x-1", 1.5)
    assert letter["undecodable"] is None
    assert '"transaction_id": "x-1"' in desk.call("show")[1]


def test_events_come_back_as_they_were_and_marked(desk: Desk) -> None:
    """Bytes, key, partition, all headers in order; a producer's own header of a name like ours stays too."""
    own = [("trace", b"\x00\xff"), ("trace", b"again"), ("empty", None), ("muse.reason", b"the producer's own")]
    desk.bury(6, headers=own)
    desk.bury(1, value=lambda _number: None)
    assert desk.replay()["sent"]["sent"] == 7
    arrived = desk.arrived()
    assert {(message.value(), message.key()) for message in arrived} == set(desk.buried)
    for message in arrived:
        headers = headers_of(message)
        number = int((message.value() or b"event 6").split()[1])
        assert message.partition() == number % PARTITIONS
        assert headers[: len(own)] == (own if number < 6 else headers[: len(own)])
        marks = dict(headers[-2:])
        assert marks["muse.replay.count"] == b"1"
        place = f"{desk.topic('dlq')}[{message.partition()}]@"
        assert (marks["muse.replay.letter"] or b"").startswith(place.encode())
    assert desk.states() == {"replayed": 7}


def test_order_stays_in_each_partition(desk: Desk) -> None:
    desk.bury(2_500)
    assert desk.replay()["sent"]["sent"] == 2_500
    numbers = defaultdict(list)
    for message in desk.arrived():
        numbers[message.partition()].append(int((message.value() or b"").split()[1]))
    assert all(found == sorted(found) for found in numbers.values())
    assert sum(map(len, numbers.values())) == 2_500


def test_what_one_filter_passes_over_another_sends_and_nothing_twice(desk: Desk) -> None:
    for _ in range(10):
        desk.bury(3, Reason.UNKNOWN_SCHEMA)
        desk.bury(2, Reason.MISSING_FEATURE)
        desk.bury(1, Reason.OVERSIZE)
    assert desk.replay("--reason", "missing-feature", "--limit", "7")["sent"]["sent"] == 7
    assert desk.replay("--reason", "missing-feature", "--reason", "oversize")["sent"]["sent"] == 23
    assert desk.replay("--since", "1h", "--limit", "4")["sent"]["sent"] == 4
    assert desk.replay()["sent"]["sent"] == 26
    assert desk.replay()["sent"] is None
    desk.assert_once(values(desk))
    assert desk.states() == {"replayed": 60}


def test_the_oldest_letters_go_first_and_since_looks_at_the_letters_time(desk: Desk) -> None:
    desk.bury(10)
    moment = desk.began + 5
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment / 1000)) + f".{moment % 1000:03}"
    assert desk.replay("--since", since)["sent"]["sent"] == 5
    assert sorted(message.value() or b"" for message in desk.arrived()) == sorted(v or b"" for v in values(desk)[5:])
    assert desk.replay("--limit", "2")["sent"]["sent"] == 2
    assert desk.replay()["sent"]["sent"] == 3
    desk.assert_once(values(desk))


def test_nothing_is_sent_without_a_yes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.bury(3)
    code, out, _ = desk.call("replay", "--dry-run")
    assert code == 0
    assert f"3 events to send to {desk.topic('events')}" in out
    assert f"by partition of {desk.topic('events')}: 0: 2, 1: 1" in out
    code, out = desk.ended(desk.start("--json"))
    assert code == 1
    assert "Send 3 events to" in out
    assert desk.arrived() == []
    assert desk.states() == {"waiting": 3}


def test_an_event_that_is_refused_again_is_sent_again_only_on_purpose(desk: Desk) -> None:
    desk.bury(4)
    desk.replay()
    for message in desk.arrived()[:2]:
        desk.again(message, Reason.MISSING_FEATURE)
    assert desk.states() == {"replayed": 4, "failed again": 2}
    assert desk.replay()["sent"] is None
    assert "2 failed again" in desk.call("replay", "--yes")[1]
    assert len(desk.arrived()) == 4
    assert desk.replay("--again")["sent"]["sent"] == 2
    again = [message for message in desk.arrived() if dict(headers_of(message))["muse.replay.count"] == b"2"]
    assert len(again) == 2
    assert [name for name, _ in headers_of(again[0])] == ["region", "muse.replay.count", "muse.replay.letter"]
    desk.again(again[0])
    assert desk.replay()["sent"] is None
    assert [letter["replays"] for letter in desk.json("show", "--limit", "1")] == [2]
    assert desk.replay("--again")["sent"]["sent"] == 1


def test_another_topic_has_a_memory_of_its_own(desk: Desk) -> None:
    desk.bury(6)
    other = desk.make_topic("elsewhere", partitions=1)
    assert desk.replay("--to-topic", other, "--limit", "4")["sent"]["sent"] == 4
    assert desk.replay("--to-topic", other)["sent"]["sent"] == 2
    desk.assert_once(values(desk), other, 1)
    assert desk.arrived() == []
    assert desk.replay()["sent"]["sent"] == 6
    desk.assert_once(values(desk))


def test_fewer_partitions_keep_each_keys_order(desk: Desk) -> None:
    """Of a partition that the other topic lacks, an event goes by its key."""
    other = desk.make_topic("narrow", partitions=1)
    desk.bury(200)
    assert desk.replay("--to-topic", other)["partitions"] == {"0": 100, "by key": 100}
    numbers = defaultdict(list)
    for message in desk.arrived(other, 1):
        numbers[message.key()].append(int((message.value() or b"").split()[1]))
    for found in numbers.values():
        for parity in (0, 1):
            assert [n for n in found if n % 2 == parity] == sorted(n for n in found if n % 2 == parity)


def test_topics_of_other_kinds_are_no_place_for_events(desk: Desk) -> None:
    desk.bury(1)
    for kind in ("scores", "dlq", "audit"):
        code, _, err = desk.call("replay", "--yes", "--to-topic", desk.topic(kind, "globex"))
        assert code == 1
        assert "takes a topic of events" in err


def test_a_topic_that_is_not_there_is_said(desk: Desk) -> None:
    desk.bury(1)
    code, _, err = desk.call("replay", "--yes", "--to-topic", "no-such-topic")
    assert (code, "there is no topic no-such-topic" in err) == (1, True)
    desk.tenant = "globex"
    code, _, err = desk.call("list")
    assert (code, f"there is no topic {desk.topic('dlq')}" in err) == (1, True)
    assert desk.call("replay", "--reason", "unknown-shema")[0] == 2
    assert desk.call("replay", "--since", "yesterday")[0] == 2


def test_records_of_others_are_left_alone(desk: Desk) -> None:
    """Without headers, with half of them, with bytes that are no text, and receipts that are none."""
    desk.bury(3)
    dlq, source = desk.topic("dlq"), desk.topic("events").encode()
    strange: list[tuple[bytes | None, list[tuple[str, bytes | None]]]] = [
        (b"plain", []),
        (None, []),
        (b"x", [("muse.source.topic", source)]),
        (b"x", [("muse.source.topic", source), ("muse.source.partition", b"0"), ("muse.source.offset", b"-1")]),
        (b"x", [("muse.source.topic", source), ("muse.source.partition", None), ("muse.source.offset", b"1")]),
        (b"x", [("muse.source.topic", b""), ("muse.source.partition", b"0"), ("muse.source.offset", b"1")]),
        (b"x", [("muse.source.topic", source), ("muse.source.partition", b"0"), ("muse.source.offset", b"9" * 30)]),
        (b"x", [("muse.source.topic", None), ("muse.source.partition", b"\xff"), ("muse.source.offset", b"1")]),
        (b"{}", [("muse.receipt", b"replay")]),
        (b"not json", [("muse.receipt", b"replay"), ("muse.receipt.to", source)]),
        (b'{"events": {"t": [[0]]}}', [("muse.receipt", b"replay"), ("muse.receipt.to", source)]),
        (b'{"events": {"t": [[0, 1e9, 99999999999999999999]]}}', [("muse.receipt", b"replay")]),
        (None, [("muse.receipt", b"replay"), ("muse.receipt.to", b"\xff")]),
        (b"x", [("__connect.errors.topic", b"t"), ("\udce9".encode("utf-8", "replace").decode(), b"\xff\xfe")]),
    ]
    producer = Producer({"bootstrap.servers": desk.bootstrap})
    for value, headers in strange:
        producer.produce(dlq, value, partition=0, headers=list(headers))
    assert producer.flush(60) == 0
    desk.bury(2)
    found = desk.json("list")
    assert found["foreign"] == len(strange)
    assert sum(row["letters"] for row in found["reasons"]) == 5
    assert desk.replay()["sent"]["sent"] == 5
    assert desk.replay()["sent"] is None
    desk.assert_once(values(desk))
    assert len(desk.json("show")) == 5
    assert main(["tail", str(desk.config), "acme", "--kind", "dlq", "--from-beginning", "--no-follow"]) == 0


def test_an_event_with_two_letters_is_sent_once(desk: Desk) -> None:
    """Offsets that were lost have a worker refuse an event twice."""
    desk.bury(4)
    desk.bury(4, first=0)
    assert desk.states() == {"waiting": 4, "duplicate": 4}
    assert desk.replay("--limit", "3")["sent"]["sent"] == 3
    assert desk.replay()["sent"]["sent"] == 1
    desk.bury(4, first=0)
    assert desk.replay()["sent"] is None
    desk.assert_once([b"event 0", b"event 1", b"event 2", b"event 3"])


def test_an_event_at_the_same_offset_of_a_topic_made_anew_is_another(desk: Desk) -> None:
    desk.bury(2)
    desk.replay()
    producer = Producer({"bootstrap.servers": desk.bootstrap})
    headers = [("muse.source.topic", desk.topic("events")), ("muse.source.partition", "0"), ("muse.source.offset", "0")]
    later = [*headers, ("muse.source.timestamp", str(START_MS + 1_000_000)), ("muse.reason", "oversize")]
    producer.produce(desk.topic("dlq"), b"event new", partition=0, headers=list(later))
    assert producer.flush(60) == 0
    assert desk.replay()["sent"]["sent"] == 1
    desk.assert_once([b"event 0", b"event 1", b"event new"])


def test_events_get_the_present_time_or_keep_theirs(desk: Desk) -> None:
    """The example's events have a time of their own, so Kafka's is now, unless told otherwise."""
    began = int(time.time() * 1000)
    desk.bury(1)
    assert desk.replay()["timestamps"] == "now"
    (message,) = desk.arrived()
    assert message.timestamp()[1] >= began
    kept = desk.make_topic("kept", partitions=2, **{"retention.ms": "-1"})
    assert desk.replay("--to-topic", kept, "--timestamps", "source")["timestamps"] == "source"
    assert desk.arrived(kept)[0].timestamp()[1] == START_MS


def test_a_format_whose_time_may_be_kafkas_keeps_it_and_expired_events_are_refused(desk: Desk) -> None:
    text = desk.config.read_text()
    desk.config.write_text(text.replace("time_outside: dead_letter", "time_outside: kafka_timestamp"))
    desk.bury(2)
    kept = desk.make_topic("short", partitions=2, **{"retention.ms": "60000"})
    code, _, err = desk.call("replay", "--yes", "--to-topic", kept)
    if time.time() * 1000 - 60_000 > START_MS:
        assert (code, "older than the retention" in err) == (1, True)
    assert desk.replay("--to-topic", kept, "--timestamps", "now")["sent"]["sent"] == 2
    unlimited = desk.make_topic("long", partitions=2, **{"retention.ms": "-1"})
    assert desk.replay("--to-topic", unlimited)["timestamps"] == "source"
    assert {message.timestamp()[1] for message in desk.arrived(unlimited)} == {START_MS, START_MS + 1}


def test_tenants_that_share_topics_see_and_send_their_own(desk: Desk) -> None:
    """Whose a letter is stands beside it, or in its event; what names nobody is on the lane's topic."""
    text = desk.config.read_text()
    shared = 'topics: &shared {dlq: "shared-dlq-{lane}", '.replace("shared-dlq", desk.topic("dlq") + "-of")
    desk.config.write_text(text.replace("topics: &shared {", shared))
    desk.tenant = "initech"
    desk.make("initech")
    source = desk.topic("events")
    assert desk.topic("dlq", "umbrella") == desk.topic("dlq")
    desk.bury(4, owner="initech")
    desk.bury(3, owner="umbrella")
    desk.bury(2)  # of an older release, and not to be decoded: nobody's
    unknown = desk.topic("dlq", "acme").replace("acme", "small")
    desk.bury(5, Reason.UNKNOWN_TENANT, topic=unknown)
    found = desk.json("list")
    assert sum(row["letters"] for row in found["reasons"]) == 4
    assert any("--unknown" in note for note in found["notes"])
    assert desk.replay()["sent"]["sent"] == 4
    desk.tenant = "umbrella"
    assert desk.replay()["sent"]["sent"] == 3
    desk.assert_once(values(desk)[:7], source)
    assert desk.replay("--unknown")["sent"]["sent"] == 5
    desk.tenant = "initech"
    assert desk.replay("--unknown")["sent"] is None, "it is one event topic"
    desk.assert_once(values(desk)[:7] + values(desk)[9:], source)


def test_a_letter_of_an_older_release_says_whose_it_is_by_its_event(desk: Desk) -> None:
    text = desk.config.read_text()
    shared = 'topics: &shared {dlq: "shared-dlq-{lane}", '.replace("shared-dlq", desk.topic("dlq") + "-of")
    desk.config.write_text(text.replace("topics: &shared {", shared))
    desk.make("initech")
    rows = desk.folder / "rows.jsonl"
    rows.write_text(
        "".join(
            f'{{"transaction_id": "x-{name}", "event_time": 1780000000000, "tenant": "{name}", "channel": "pos", '
            '"amount": 1.5, "cross_border": false, "terminal": {"id": "t", "risk_7d": null}, '
            '"customer": {"age": null, "tx_per_day": 0.5}}\n'
            for name in ("initech", "umbrella")
        )
    )
    assert main(["produce", str(desk.config), "initech", str(rows)]) == 0
    events = [message.value() for message in desk.arrived(desk.topic("events", "initech"))]
    desk.tenant = "initech"
    desk.bury(2, Reason.NO_ROUTE, value=lambda number: events[number], first=0)
    for desk.tenant in ("initech", "umbrella"):
        (letter,) = desk.json("show")
        assert letter["event"]["tenant"] == desk.tenant
        words = ["tail", str(desk.config), desk.tenant, "--kind", "dlq", "--from-beginning", "--no-follow", "--json"]
        assert main(words) == 0
        assert desk.capture.readouterr().out.count("no-route") == 1


def test_tail_and_verify_know_receipts(desk: Desk) -> None:
    desk.make_topic(name=desk.topic("scores"), partitions=PARTITIONS)
    produce(desk.bootstrap, [ToSend(desk.topic("events"), n % 2, b"no event") for n in range(4)])
    for message in desk.arrived():
        desk.again(message, Reason.UNDECODABLE)
    words = [str(desk.config), "acme"]
    assert main(["verify", *words]) == 0
    assert desk.replay()["sent"]["sent"] == 4
    assert main(["verify", *words, "--json"]) == 1, "what was sent again has no answer yet"
    assert '"missing"' in desk.capture.readouterr().out
    for message in desk.arrived()[2:]:
        if dict(headers_of(message)):
            desk.again(message)
    arrived = [message for message in desk.arrived() if message.headers()]
    assert len(arrived) == 4
    assert main(["tail", *words, "--kind", "dlq", "--from-beginning", "--no-follow"]) == 0
    assert "events were sent to" in desk.capture.readouterr().out


def test_a_store_may_be_named_by_its_option(desk: Desk) -> None:
    desk.bury(1)
    assert main(["dlq", "list", "--store", str(desk.config), "acme"]) == 0
    assert "1 dead letters of acme" in desk.capture.readouterr().out
