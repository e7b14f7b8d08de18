"""Scores are counted once each, whatever happens to who counts them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from muse_stream.config import consumer_group, load_document, pre_map_hash
from muse_stream.control import generate
from muse_stream.kafka import topic_ids
from muse_stream.runtime.drift_looks import drifts
from muse_stream.runtime.score_counter import TopicOffsets, offsets_name
from muse_stream.testing import Redis
from muse_stream.testing.kafka_broker import Broker
from tests.calibrate.scores import Scores
from tests.patience import until
from tests.runtime.test_batch_scorer import changed

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
MakeTopic = Callable[..., str]


@pytest.fixture(params=["directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> str:
    if request.param == "directory":
        return str(tmp_path / "store")
    redis: Redis = request.getfixturevalue("redis")
    return f"{redis.url}?prefix={unique('muse')}"


@pytest.fixture
def scores(tmp_path: Path, unique: Callable[[str], str], make_topic: MakeTopic, store: str) -> Iterator[Scores]:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    made = Scores(folder, unique("bank"), store)
    made.publish()
    for kind in ("scores", "audit"):
        for tenant in ("acme", "globex"):
            make_topic(name=made.topic(kind, tenant), partitions=2)
    yield made
    made.store.close()


def values(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).beta(0.5, 4, count)


def test_live_and_shadow_scores_are_counted_by_content_day_and_map(
    scores: Scores, kafka: Broker, tmp_path: Path
) -> None:
    live = values(5_000)
    scores.write(kafka.bootstrap, "acme", live, partitions=2)
    scores.write(kafka.bootstrap, "globex", values(100), partitions=2, scored_at=1_000)  # of 1970
    scores.write(kafka.bootstrap, "globex", [0.1, 0.2], generation=77)  # nobody knows what that was
    scores.write(kafka.bootstrap, "globex", [1.5, -0.1, float("nan")])  # no scores
    scores.write(kafka.bootstrap, "acme", values(300), kind="audit", predictor="cards-next", partitions=2)
    scores.write(kafka.bootstrap, "acme", [0.2, 0.3], kind="audit", predictor="cards-next", score=[None, None])
    with scores.counting(kafka.bootstrap, tmp_path / "log") as counting:
        counting.wait(lambda: scores.counted() == {("acme", "cards"): 5_000, ("acme", "cards-next"): 300})
        scores.write(kafka.bootstrap, "globex", values(50), partitions=2)
        counting.wait(lambda: scores.counted()["globex", "cards"] == 50)
        assert counting.stop() == 0
    document = load_document(scores.document).document
    by_name = {(one.tenant, one.predictor): one for one in scores.counts()}
    cards = by_name["acme", "cards"]
    assert cards.content == pre_map_hash(document, "cards")
    (served,) = cards.maps.values()
    assert served.thresholds == (0.2, 0.5, 0.6, 0.8)
    assert served.cells.sum(axis=0).tolist() == [5_000, *(int((live >= one).sum()) for one in served.thresholds)]
    assert 10 < np.count_nonzero(served.groups[:, 0]) <= 20  # twenty keys, of which some share a group
    assert sum(cards.covered.values()) == 5_000
    assert cards.sketch.distribution()[0].max() == pytest.approx(live.max(), rel=1e-5)
    # another tenant's map is another one
    assert set(cards.maps) != set(by_name["globex", "cards"].maps)


def test_a_restart_goes_on_and_a_topic_that_is_made_anew_begins_again(
    scores: Scores, kafka: Broker, tmp_path: Path, make_topic: MakeTopic
) -> None:
    with scores.counting(kafka.bootstrap, tmp_path / "log") as counting:
        scores.write(kafka.bootstrap, "acme", values(1_000), partitions=2)
        counting.wait(lambda: scores.counted()["acme", "cards"] == 1_000)
        assert counting.stop() == 0
    scores.write(kafka.bootstrap, "acme", values(10), partitions=2)
    topic = scores.topic("scores", "globex")
    scores.write(kafka.bootstrap, "globex", values(20), partitions=2)
    with scores.counting(kafka.bootstrap, tmp_path / "log2") as counting:
        counting.wait(lambda: scores.counted() == {("acme", "cards"): 1_010, ("globex", "cards"): 20})
        assert counting.stop() == 0
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.delete_topics([topic], operation_timeout=30)[topic].result()
    until(lambda: topic not in admin.list_topics(timeout=60).topics, 20, lambda: f"{topic} is there still")
    make_topic(name=topic, partitions=2)
    scores.write(kafka.bootstrap, "globex", values(400), partitions=2)  # more than the old one had
    with scores.counting(kafka.bootstrap, tmp_path / "log3") as counting:
        counting.wait(lambda: scores.counted() == {("acme", "cards"): 1_010, ("globex", "cards"): 420})
        assert counting.lines("topic_created_again")
        assert counting.stop() == 0


@pytest.mark.parametrize(
    "records", [pytest.param(1_000, marks=pytest.mark.long), 20], ids=["beyond the old offset", "below it"]
)
def test_a_topic_that_is_made_anew_under_the_running_role_begins_again(
    scores: Scores, kafka: Broker, tmp_path: Path, make_topic: MakeTopic, records: int
) -> None:
    topic = scores.topic("scores", "globex")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    with scores.counting(kafka.bootstrap, tmp_path / "log") as counting:
        scores.write(kafka.bootstrap, "globex", values(300))
        scores.write(kafka.bootstrap, "acme", values(10))
        counting.wait(lambda: scores.counted() == scores.written)
        make_anew(make_topic, admin, topic)
        scores.write(kafka.bootstrap, "globex", values(records))
        counting.wait(lambda: scores.counted() == scores.written)
        scores.write(kafka.bootstrap, "globex", values(50))
        scores.write(kafka.bootstrap, "acme", values(5))
        counting.wait(lambda: scores.counted() == scores.written)
        (said,) = counting.lines("topic_created_again")
        assert said["topic"] == topic
        assert counting.stop() == 0
    assert scores.counted() == scores.written
    (counts,) = [one for one in scores.counts() if one.tenant == "globex"]
    assert counts.covered == {f"{topic}#0/0": 300, f"{topic}#1/0": records + 50}


def make_anew(make_topic: MakeTopic, admin: AdminClient, topic: str) -> None:
    """A broker that has just deleted a topic may still know its name, and take records for it."""
    old = topic_ids(admin, [topic])
    admin.delete_topics([topic], operation_timeout=30)[topic].result()

    def made() -> bool:
        try:
            make_topic(name=topic, partitions=2)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                return False
            raise
        return True

    until(made, 20, lambda: f"{topic} is there still")
    until(lambda: topic_ids(admin, [topic]) not in (old, {}), 20, lambda: f"the broker knows the old {topic} only")


@pytest.mark.long  # two runs of the role; the tests above have one
def test_scores_that_are_gone_before_they_were_read_are_said_and_noted(
    scores: Scores, kafka: Broker, tmp_path: Path
) -> None:
    topic = scores.topic("scores", "acme")
    with scores.counting(kafka.bootstrap, tmp_path / "log") as counting:
        scores.write(kafka.bootstrap, "acme", values(100))
        counting.wait(lambda: scores.counted() == scores.written)
        assert counting.stop() == 0
    scores.write(kafka.bootstrap, "acme", values(60))
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    (removed,) = admin.delete_records([TopicPartition(topic, 0, 140)]).values()
    assert removed.result().low_watermark == 140
    with scores.counting(kafka.bootstrap, tmp_path / "log2") as counting:
        counting.wait(lambda: scores.counted()["acme", "cards"] == 120)
        (said,) = counting.lines("scores_removed_unread")
        assert (said["topic"], said["partition"], said["offsets"]) == (topic, 0, 40)
        assert counting.stop() == 0
    group = consumer_group("muse", scores.name, "calibrate")
    known = TopicOffsets.read(scores.store.durable(offsets_name(group, topic)))
    assert list(known.gaps.values()) == [40]
    (found,) = drifts(scores.store)
    assert "40 records were gone before they were counted" in found.gaps[0]


@pytest.mark.long  # as above
def test_while_the_store_is_away_what_is_read_waits_and_is_counted_when_it_is_back(
    scores: Scores, kafka: Broker, tmp_path: Path
) -> None:
    with scores.counting(kafka.bootstrap, tmp_path / "log") as counting:
        scores.write(kafka.bootstrap, "acme", values(100), partitions=2)
        counting.wait(lambda: scores.counted() == scores.written)
        lock = Path(scores.address) / "durable" / "lock"
        until(lambda: no_lock(lock), 20, lambda: "its lock comes back")  # whoever writes there is refused
        scores.write(kafka.bootstrap, "acme", values(200), partitions=2)
        counting.wait(lambda: counting.lines("counts_not_stored"))
        assert counting.process.poll() is None
        lock.rmdir()
        counting.wait(lambda: scores.counted() == scores.written)
        assert counting.stop() == 0
    assert scores.counted() == scores.written


def no_lock(lock: Path) -> bool:
    """Put a folder in its place, unless a writer is quicker."""
    lock.unlink(missing_ok=True)
    try:
        lock.mkdir()
    except FileExistsError:
        return False
    return True


@pytest.mark.long  # test_drift_watch.py has when it is said
def test_a_drift_is_said_once_when_it_is_established_and_when_it_is_over(
    scores: Scores, kafka: Broker, tmp_path: Path
) -> None:
    with scores.counting(kafka.bootstrap, tmp_path / "log", look_s=0.5) as counting:
        scores.write(kafka.bootstrap, "acme", np.full(3_000, 0.9), score=np.full(3_000, 0.9), partitions=2)
        counting.wait(lambda: counting.lines("drift_established"))
        (said,) = counting.lines("drift_established")
        assert (said["tenant"], said["predictor"], said["state"]) == ("acme", "cards", "drifted")
        changed(scores.document, loosened)
        scores.publish()
        counting.wait(lambda: counting.lines("drift_over"))
        assert counting.stop() == 0
    assert len(counting.lines("drift_established")) == 1


@pytest.mark.long  # tests/control/test_signatures.py has who is trusted
def test_of_signed_generations_it_follows_no_other(
    scores: Scores, kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes on with the one that it has, and counts by it."""
    trusted = tmp_path / "trusted.pub"
    trusted.write_text(generate(tmp_path / "key.pem", "release"))
    monkeypatch.setenv("MUSE_SIGN_KEY_FILE", str(tmp_path / "key.pem"))
    signed = scores.publish()
    monkeypatch.delenv("MUSE_SIGN_KEY_FILE")
    with scores.counting(kafka.bootstrap, tmp_path / "log", trusted=trusted) as counting:
        scores.write(kafka.bootstrap, "acme", values(100), partitions=2, generation=signed)
        counting.wait(lambda: scores.counted() == scores.written)
        changed(scores.document, loosened)
        assert scores.publish() == signed + 1
        counting.wait(lambda: counting.lines("generation_refused"))
        assert "is not signed; publish it with --sign-key" in counting.lines("generation_refused")[0]["error"]
        scores.write(kafka.bootstrap, "acme", values(50), partitions=2, generation=signed)
        counting.wait(lambda: scores.counted() == scores.written)
    assert {line["number"] for line in counting.lines("generation")} == {signed}


def loosened(document: Any) -> None:
    document["drift"] = {"tolerance": 100.0, "psi": 100.0, "ks": 1.0}


def killed(scores: Scores, kafka: Broker, folder: Path, kills: int) -> None:
    """Two workers count while one of them is killed again and again: at random, and at each step of storing."""
    random = np.random.default_rng(3)
    steps = "after-read=kill:0.05,counts-stored=kill:0.1,offsets-stored=kill:0.1"
    log = folder / "log"

    def deaths() -> int:
        text = log.read_text(encoding="utf-8")
        return text.count('"worker_ended"')

    with scores.counting(kafka.bootstrap, log, workers=2, failpoints=steps) as counting:
        # who is killed before any worker has served may end the whole run: that is the supervisor's rule
        scores.write(kafka.bootstrap, "acme", values(10), partitions=2)
        # asked of the store: who is killed once it has stored them says nothing any more
        counting.wait(lambda: scores.counted() == scores.written)
        rounds = 0
        while deaths() < kills:
            rounds += 1
            assert counting.process.poll() is None, log.read_text(encoding="utf-8")[-2000:]
            scores.write(kafka.bootstrap, "acme", values(500, rounds), partitions=2)
            scores.write(kafka.bootstrap, "globex", values(500, rounds), partitions=2)
            scores.write(
                kafka.bootstrap, "acme", values(100, rounds), kind="audit", predictor="cards-next", partitions=2
            )
            if random.random() < 0.2 and (workers := counting.workers()):
                workers[int(random.integers(len(workers)))].kill()
        counting.process.kill()  # with its workers
        counting.process.wait()
    with scores.counting(kafka.bootstrap, folder / "last", workers=2) as counting:
        counting.wait(lambda: scores.counted() == scores.written, 120)
        assert counting.stop() == 0
    assert scores.counted() == scores.written
    for one in scores.counts():
        assert sum(table.cells[:, 0].sum() for table in one.maps.values()) == one.events


@pytest.mark.long  # test_a_restart_goes_on_and_a_topic_that_is_made_anew_begins_again is one start anew
def test_counts_are_exact_after_two_kills(scores: Scores, kafka: Broker, tmp_path: Path) -> None:
    killed(scores, kafka, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("store", ["directory", "redis"], indirect=True)
def test_counts_are_exact_after_twenty_kills(scores: Scores, kafka: Broker, tmp_path: Path) -> None:
    killed(scores, kafka, tmp_path, 20)
