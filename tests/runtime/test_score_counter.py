"""Who has taken up which partition of the counting role's topics, as the store keeps it."""

from pathlib import Path

import pytest

from muse_stream.control import open_store
from muse_stream.kafka import Bounds
from muse_stream.runtime.score_counter import ScoreCounter, TopicOffsets
from tests.worker.doubles import ListLog

BOTH = {("scores", 0): Bounds(0, 10), ("scores", 1): Bounds(0, 10)}


def test_who_takes_partitions_up_leaves_its_name_and_a_new_topic_bears_no_old_one(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store")

    def counter(instance: str) -> ScoreCounter:
        return ScoreCounter(store, "group", instance, [], ListLog(), lambda _step: None)

    first, second = counter("host-0"), counter("host-1")
    assert first.owners(["scores"]) == {}
    first.starts(BOTH, {"scores": "id1"})
    second.starts({("scores", 1): Bounds(0, 10)}, {"scores": "id1"})
    assert first.owners(["scores", "audit"]) == {("scores", 0): "host-0", ("scores", 1): "host-1"}
    first.starts({("scores", 0): Bounds(0, 10)}, {"scores": "id2"})
    assert first.owners(["scores"]) == {("scores", 0): "host-0"}
    store.close()


@pytest.mark.parametrize("owners", ["", ', "owners": {"0": "host-0"}'])
def test_a_record_of_offsets_of_the_release_before_has_no_owners(owners: str) -> None:
    known = TopicOffsets.read(f'{{"incarnation": 2, "id": "x", "offsets": {{"0": 7}}, "gaps": {{}}{owners}}}'.encode())
    assert (known.incarnation, known.offsets, known.owners) == (2, {0: 7}, {0: "host-0"} if owners else {})
