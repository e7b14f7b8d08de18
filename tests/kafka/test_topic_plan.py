"""The plan names every topic a document needs, and touches nothing that only a person may decide."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from muse_stream.config import Document, TenantSpec, Topics, load_document
from muse_stream.config.kafka_settings import KafkaSettings
from muse_stream.errors import Fatal
from muse_stream.kafka import client
from muse_stream.kafka.admin import carry_out, survey
from muse_stream.kafka.topic_plan import BROKER_MAX_MESSAGE, HEADROOM, Change, Existing, Options, needed, plan
from muse_stream.testing.kafka_broker import Broker
from tests.patience import until

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"


@pytest.fixture
def document() -> Document:
    return load_document(EXAMPLE).document


def done(changes: list[Change]) -> dict[str, Existing]:
    """The cluster after a plan was carried out."""
    config = {"min.insync.replicas": "1", "retention.ms": "604800000", "cleanup.policy": "delete"}
    config["max.message.bytes"] = str(BROKER_MAX_MESSAGE)
    return {
        change.topic: Existing(change.partitions or 1, 1, config | dict(change.config))
        for change in changes
        if change.action == "create"
    }


def test_every_topic_once_with_all_who_share_it(document: Document) -> None:
    found = {(need.kind, need.name): need.tenants for need in needed(document)}
    assert found[("events", "muse.events.small")] == ("initech", "umbrella")
    assert found[("scores", "globex.risk.scores")] == ("globex",)
    assert found[("dlq", "muse.dlq.initech")] == ("initech",)
    assert found[("unknown", "muse.dlq.small")] == ("initech", "umbrella")
    assert len(found) == 15


def test_chosen_tenants_only(document: Document) -> None:
    assert {need.name for need in needed(document, ["globex"])} == {
        "muse.events.globex",
        "globex.risk.scores",
        "muse.audit.globex",
        "muse.dlq.globex",
        "muse.dlq.main",
    }


def test_plan_carried_out_leaves_nothing_to_do(document: Document) -> None:
    changes = plan(document, {}, Options(partitions=12))
    assert {change.action for change in changes} == {"create"}
    assert {change.partitions for change in changes} == {12}
    assert plan(document, done(changes), Options(partitions=3)) == []


def test_outputs_follow_the_width_of_their_event_topic(document: Document) -> None:
    existing = {"muse.events.acme": Existing(24, 3)}
    made = {change.topic: change.partitions for change in plan(document, existing, Options(partitions=4))}
    assert made["muse.scores.acme"] == made["muse.audit.acme"] == made["muse.dlq.acme"] == 24
    assert made["globex.risk.scores"] == 4
    assert made["muse.dlq.main"] == 24, "the widest of those that feed it"


def test_output_partitions_may_be_chosen(document: Document) -> None:
    made = {c.topic: c.partitions for c in plan(document, {}, Options(partitions=8, output_partitions=2))}
    assert (made["muse.events.acme"], made["muse.scores.acme"]) == (8, 2)


def test_dead_letters_have_room_for_whatever_the_event_topic_takes(document: Document) -> None:
    existing = {"muse.events.acme": Existing(1, 1, {"max.message.bytes": "20000000"})}
    sizes = {c.topic: int(c.config.get("max.message.bytes", 0)) for c in plan(document, existing)}
    assert sizes["muse.dlq.acme"] == sizes["muse.dlq.main"] == 20_000_000 + HEADROOM
    assert sizes["muse.events.globex"] == document.limits.max_event_bytes + HEADROOM
    assert sizes["muse.dlq.globex"] == sizes["muse.events.globex"] + HEADROOM
    assert sizes["muse.scores.acme"] == 0


def test_small_dead_letter_topic_is_enlarged_but_never_made_smaller(document: Document) -> None:
    existing = done(plan(document, {}))
    existing["muse.dlq.acme"] = Existing(6, 1, {"max.message.bytes": "1000012"})
    existing["muse.dlq.globex"] = Existing(6, 1, {"max.message.bytes": "90000000"})
    (change,) = plan(document, existing)
    assert (change.action, change.topic) == ("set", "muse.dlq.acme")
    assert int(change.config["max.message.bytes"]) == document.limits.max_event_bytes + 2 * HEADROOM


@pytest.mark.parametrize(("name", "record"), [("muse.scores.acme", 16 * 1024), ("muse.audit.acme", 64 * 1024)])
def test_an_output_that_is_too_small_for_a_record_is_enlarged_and_for_a_record_batch_warned_of(
    document: Document, name: str, record: int
) -> None:
    existing = done(plan(document, {}))
    existing[name] = Existing(6, 1, {"max.message.bytes": str(record - 1)})
    (change,) = plan(document, existing)
    assert (change.action, change.topic, change.config) == (
        "set",
        name,
        {"max.message.bytes": str(BROKER_MAX_MESSAGE)},
    )
    existing[name] = Existing(6, 1, {"max.message.bytes": str(record)})
    (change,) = plan(document, existing)
    assert (change.action, change.topic, "record batch" in change.why) == ("warn", name, True)
    existing[name] = Existing(6, 1, {"max.message.bytes": str(BROKER_MAX_MESSAGE)})
    assert plan(document, existing) == []


def test_an_output_that_refuses_timestamps_of_a_moment_ago_is_warned_of(document: Document) -> None:
    existing = done(plan(document, {}))
    existing["muse.scores.acme"] = Existing(6, 1, {"message.timestamp.before.max.ms": "1000"})
    (change,) = plan(document, existing)
    assert (change.action, "message.timestamp.before.max.ms 1000" in change.why) == ("warn", True)


def test_options_given_are_set_on_what_is_there_and_left_alone_otherwise(document: Document) -> None:
    existing = done(plan(document, {}))
    assert plan(document, existing, Options()) == []
    changes = plan(document, existing, Options(min_isr=1, retention_ms=1000))
    assert {change.action for change in changes} == {"set"}
    assert {tuple(change.config.items()) for change in changes} == {(("retention.ms", "1000"),)}
    assert len(changes) == 15


def test_what_only_a_person_can_decide_is_a_warning(document: Document) -> None:
    existing = done(plan(document, {}, Options(partitions=4)))
    existing["muse.scores.acme"] = Existing(2, 1, {"cleanup.policy": "compact"})
    existing["muse.audit.acme"] = Existing(4, 1, {"min.insync.replicas": "2"})
    changes = plan(document, existing, Options(replication=3))
    assert {change.action for change in changes} == {"warn"}
    said: dict[str, list[str]] = defaultdict(list)
    for change in changes:
        said[change.topic].append(change.why)
    assert any("2 partitions where its event topic has 4" in why for why in said["muse.scores.acme"])
    assert any("compacted" in why for why in said["muse.scores.acme"])
    assert any("no write can succeed" in why for why in said["muse.audit.acme"])
    assert any("1 replicas, not 3" in why for why in said["muse.events.acme"])


def test_many_small_output_topics_in_a_lane_are_warned_about(document: Document) -> None:
    tenants = {f"t{number}": TenantSpec(event="card-event") for number in range(12)}
    many = document.model_copy(update={"tenants": tenants})
    warnings = [change.why for change in plan(many, {}, Options(partitions=3)) if change.action == "warn"]
    assert len(warnings) == 1
    assert "36 partitions in 12 topics" in warnings[0]
    shared = many.model_copy(update={"topics": Topics(scores="muse.scores.{lane}")})
    assert [change for change in plan(shared, {}, Options(partitions=3)) if change.action == "warn"] == []


def test_limits_below_the_default_are_said_all_the_same(document: Document) -> None:
    small = document.model_copy(update={"limits": document.limits.model_copy(update={"max_event_bytes": 1000})})
    sizes = {c.topic: int(c.config.get("max.message.bytes", 0)) for c in plan(small, {})}
    assert sizes["muse.dlq.acme"] == sizes["muse.events.acme"] + HEADROOM == BROKER_MAX_MESSAGE + HEADROOM


def renamed(document: Document, unique: Callable[[str], str]) -> Document:
    """The document with topics that no other test has."""
    mark = unique("t")
    topics = Topics(
        events=mark + ".events.{tenant}",
        scores=mark + ".scores.{tenant}",
        audit=mark + ".audit.{tenant}",
        dlq=mark + ".dlq.{tenant}",
        unknown=mark + ".dlq.{lane}",
    )
    tenants = {"acme": TenantSpec(event="card-event"), "globex": TenantSpec(event="card-event")}
    return document.model_copy(update={"topics": topics, "tenants": tenants})


def test_real_cluster_becomes_what_was_planned(document: Document, kafka: Broker, unique: Callable[[str], str]) -> None:
    document = renamed(document, unique)
    admin = client.reach(KafkaSettings(bootstrap=kafka.bootstrap))
    names = [need.name for need in needed(document)]
    options = Options(partitions=3, replication=1, min_isr=1, retention_ms=3_600_000)
    assert survey(admin, names) == {}
    changes = plan(document, {}, options)
    assert carry_out(admin, changes, options) == changes
    # brokers learn of a topic or a setting a moment after it was accepted
    until(lambda: survey(admin, names).keys() == set(names), 20)
    existing = survey(admin, names)
    assert {one.partitions for one in existing.values()} == {3}
    assert {one.config["retention.ms"] for one in existing.values()} == {"3600000"}
    assert plan(document, existing, options) == []
    changes = plan(document, existing, Options(retention_ms=-1))
    carry_out(admin, changes, Options())
    until(lambda: {one.config["retention.ms"] for one in survey(admin, names).values()} == {"-1"}, 20)


def test_topics_that_were_created_are_waited_for_until_a_broker_lists_them(
    kafka: Broker, unique: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller has noted them; a broker that hears of it late tells a client that there is no such topic."""
    admin, name, hidden = client.reach(KafkaSettings(bootstrap=kafka.bootstrap)), unique("late"), [3]
    listed = AdminClient.list_topics

    def late(self: AdminClient, *given: Any, **named: Any) -> Any:
        found = listed(self, *given, **named)
        if hidden[0]:
            hidden[0] -= 1
            found.topics.pop(name, None)
        return found

    monkeypatch.setattr(AdminClient, "list_topics", late)
    carry_out(admin, [Change("create", name, "events", "does not exist", 2)], Options(replication=1))
    assert hidden == [0]


def test_second_creator_is_no_error_and_every_refusal_is_named(kafka: Broker, unique: Callable[[str], str]) -> None:
    admin = client.reach(KafkaSettings(bootstrap=kafka.bootstrap))
    name = unique("twice")
    change = Change("create", name, "events", "does not exist", 1)
    for _ in range(2):
        assert carry_out(admin, [change], Options(replication=1)) == [change]
    impossible = [Change("create", unique("wide"), "events", "", 1), Change("create", unique("wider"), "events", "", 1)]
    with pytest.raises(Fatal) as refused:
        carry_out(admin, impossible, Options(replication=7))
    assert all(change.topic in str(refused.value) for change in impossible)
