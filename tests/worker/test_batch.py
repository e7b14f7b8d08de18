"""A batch of raw records: where its partitions begin and end."""

import random

from tests.worker.doubles import raw


def test_edges_are_the_first_and_last_row_of_each_partition() -> None:
    """In runs, as Kafka gives them, and mixed: offsets of a transaction are told by these rows."""
    random.seed(4)
    for longest in (1, 2, 50):
        places = [
            place
            for _ in range(40)
            for place in [(f"t{random.randrange(3)}", random.randrange(4))] * random.randint(1, longest)
        ]
        topics, partitions = [topic for topic, _ in places], [partition for _, partition in places]
        batch = raw([b""] * len(places), topics=topics, partitions=partitions)
        first, last = batch.edges()
        assert first == {place: places.index(place) for place in places}
        assert last == {place: len(places) - 1 - places[::-1].index(place) for place in places}
    assert raw([]).edges() == ({}, {})
