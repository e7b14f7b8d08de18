"""The counts of a day: each record once, whoever adds it and however often."""

import numpy as np
import pytest

from muse_stream.calibration import Arrivals, DayCounts, counts_name
from muse_stream.calibration.day_counts import MOST_MAPS

LEVELS = (0.5, 0.8)


def arrivals(place: str, first: int, last: int, map_id: str = "m", step: int = 1) -> Arrivals:
    """Records of a partition whose scores tell their offsets."""
    offsets = np.arange(first, last, step)
    scores = (offsets % 10) / 10
    return Arrivals(place, offsets, scores / 2, scores, offsets // 10 % 96, offsets % 128, map_id, LEVELS)


def day() -> DayCounts:
    return DayCounts("acme", "c" * 64, "2026-11-26", "cards")


def test_events_and_alerts_are_counted_exactly_and_survive_storing() -> None:
    counts = day()
    assert counts.add([arrivals("t/0", 0, 1000), arrivals("t/1", 0, 500, "other")]) == 1500
    found = DayCounts.from_bytes(counts.to_bytes())
    assert found.name == counts.name == counts_name("acme", "c" * 64, "2026-11-26")
    assert (found.events, found.covered, found.predictor) == (1500, {"t/0": 1000, "t/1": 500}, "cards")
    cells = found.maps["m"].cells
    assert cells.sum(axis=0).tolist() == [1000, 500, 200]
    assert cells[3].tolist() == [20, 10, 4]  # offsets 30 to 39 and 990 to 999
    assert found.maps["m"].groups.sum(axis=0).tolist() == [1000, 500, 200]
    assert found.maps["other"].thresholds == LEVELS
    assert found.groups.sum() == 1500


def test_a_record_that_is_in_already_is_not_counted_again() -> None:
    counts = day()
    counts.add([arrivals("t/0", 100, 200)])
    assert counts.add([arrivals("t/0", 100, 200)]) == 0
    assert counts.add([arrivals("t/0", 150, 250), arrivals("t/1", 150, 160)]) == 60  # another reader was slower
    assert counts.add([arrivals("t/0", 0, 100)]) == 0
    assert counts.events == counts.maps["m"].cells[:, 0].sum() == 160


def test_any_order_of_two_readers_of_one_partition_counts_each_record_once() -> None:
    random = np.random.default_rng(1)
    for _ in range(30):
        counts = day()
        places = [0, 0]
        while min(places) < 300:
            reader = int(random.integers(2))
            # a reader goes on from what was counted when it began, or from its own last record
            start = places[reader]
            places[reader] = end = start + int(random.integers(1, 40))
            counts.add([arrivals("t/0", start, end)])
            if random.random() < 0.2:
                places[1 - reader] = min(counts.covered["t/0"], max(places))
        assert counts.events == counts.covered["t/0"] == max(places)


def test_records_without_a_map_count_for_the_sketch_alone() -> None:
    counts = day()
    counts.add([arrivals("t/0", 0, 10, map_id="")])
    assert (counts.events, counts.maps) == (10, {})


def test_of_many_maps_in_a_day_the_oldest_is_let_go() -> None:
    counts = day()
    for number in range(MOST_MAPS + 2):
        counts.add([arrivals("t/0", number * 10, number * 10 + 10, f"m{number}")])
    assert list(counts.maps) == [f"m{number}" for number in range(2, MOST_MAPS + 2)]
    assert counts.events == 10 * (MOST_MAPS + 2)


def test_a_day_of_a_million_events_under_two_maps_is_stored_in_under_32_kb() -> None:
    random, counts = np.random.default_rng(4), day()
    levels = tuple(np.linspace(0.1, 0.95, 8))
    for part in range(50):
        offsets = np.arange(part * 20_000, part * 20_000 + 20_000)
        scores = random.beta(0.3, 30, 20_000)
        cells, groups = np.sort(random.integers(part, part + 2, 20_000)), random.integers(0, 128, 20_000)
        counts.add([Arrivals("t/0", offsets, scores, scores**0.2, cells, groups, f"m{part // 25}", levels)])
    assert counts.events == 1_000_000
    assert len(counts.to_bytes()) < 32_000


def test_rubbish_and_newer_formats_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = day().to_bytes()
    counts = day()
    counts.add([arrivals("t/0", 0, 100)])
    flipped = bytearray(counts.to_bytes())
    flipped[-30] ^= 1
    for wrong in (b"", b"MSC1", b"x" + sound[1:], counts.to_bytes()[:-4], bytes(flipped)):
        with pytest.raises(ValueError, match="no counts of a day"):
            DayCounts.from_bytes(wrong)
    monkeypatch.setattr(DayCounts, "FORMAT", 2)
    newer = counts.to_bytes()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 2; this muse_stream reads format 1"):
        DayCounts.from_bytes(newer)
