"""The counts of a day: each record once, whoever adds it and however often."""

import json
import struct
import zlib

import numpy as np
import pytest

from muse_stream.calibration import Arrivals, DayCounts, ScoreSketch, counts_name
from muse_stream.calibration.day_counts import LARGEST, MOST_MAPS
from muse_stream.calibration.score_sketch import unpacked_words

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


def test_the_map_that_serves_is_never_let_go() -> None:
    counts = day()
    for number in range(MOST_MAPS + 2):
        counts.add([arrivals("t/0", number * 20, number * 20 + 10, f"m{number}")])
        counts.add([arrivals("t/0", number * 20 + 10, number * 20 + 20, "m0")])  # taken back again and again
    assert list(counts.maps)[-1] == "m0"
    assert counts.maps["m0"].cells[:, 0].sum() == 10 * (MOST_MAPS + 3)


def million(maps: int = 1) -> DayCounts:
    random, counts = np.random.default_rng(4), day()
    levels = tuple(np.linspace(0.1, 0.95, 8))
    for part in range(50):
        offsets = np.arange(part * 20_000, part * 20_000 + 20_000)
        scores = random.beta(0.3, 30, 20_000)
        cells, groups = np.sort(random.integers(part, part + 2, 20_000)), random.integers(0, 128, 20_000)
        counts.add([Arrivals("t/0", offsets, scores, scores**0.2, cells, groups, f"m{part * maps // 50}", levels)])
    return counts


def grown(counts: DayCounts, times: int) -> DayCounts:
    """As if each event had come so many times: a sketch merged with itself keeps as many scores as one of so many."""
    stored = counts.sketch.to_bytes()
    for _ in range(times - 1):
        counts.sketch.merge(ScoreSketch.from_bytes(stored))
    for one in counts.maps.values():
        one.cells *= times
        one.groups *= times
    return counts


def test_a_day_is_stored_in_under_32_kb_however_many_events_it_has() -> None:
    counts = million()
    assert counts.events == 1_000_000
    sizes = [len(counts.to_bytes())]
    for _ in range(3):
        counts = grown(counts, 10)
        sizes.append(len(counts.to_bytes()))
    assert counts.events == 1_000_000_000
    assert sizes[0] < 20_000
    assert max(sizes) < LARGEST
    found = DayCounts.from_bytes(counts.to_bytes())
    assert found.events == found.maps["m0"].cells[:, 0].sum() == 1_000_000_000


def test_of_many_maps_in_a_large_day_those_that_served_last_are_stored() -> None:
    counts = grown(million(maps=MOST_MAPS), 10)
    for number in range(400):
        counts.covered[f"muse.scores.everybody#0/{number}"] = 10_000_000_000 + number
    random = np.random.default_rng(6)
    for one in counts.maps.values():  # nothing that could be deflated
        one.cells += random.integers(0, 2**28, one.cells.shape)
        one.groups += random.integers(0, 2**28, one.groups.shape)
    stored = counts.to_bytes()
    found = DayCounts.from_bytes(stored)
    assert len(stored) < LARGEST
    assert list(found.maps) == [f"m{number}" for number in range(MOST_MAPS)][-len(found.maps) :]
    assert 1 <= len(found.maps) < MOST_MAPS
    assert found.covered == counts.covered


def test_counts_of_the_first_format_are_read() -> None:
    counts = day()
    counts.add([arrivals("t/0", 0, 1000), arrivals("t/1", 0, 500, "other")])
    sketch = unpacked_words(counts.sketch.to_bytes(), 1 << 20)
    tables = b"".join(one.astype("<i4").tobytes() for of in counts.maps.values() for one in (of.cells, of.groups))
    header = {
        "format": 1, "tenant": "acme", "content": "c" * 64, "day": "2026-11-26", "predictor": "cards", "events": 1500,
        "covered": counts.covered, "maps": dict.fromkeys(counts.maps, LEVELS), "sketch": len(sketch),
    }  # fmt: skip
    text = json.dumps(header).encode()
    body = text + sketch + zlib.compress(tables)
    found = DayCounts.from_bytes(struct.pack("<4sII", b"MSC1", zlib.crc32(body), len(text)) + body)
    assert (found.events, found.covered) == (1500, counts.covered)
    for name, one in counts.maps.items():
        assert np.array_equal(found.maps[name].cells, one.cells)
        assert np.array_equal(found.maps[name].groups, one.groups)
    again = DayCounts.from_bytes(found.to_bytes())
    assert again.sketch.distribution()[0].tolist() == counts.sketch.distribution()[0].tolist()


def test_rubbish_and_newer_formats_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    sound = day().to_bytes()
    counts = day()
    counts.add([arrivals("t/0", 0, 100)])
    flipped = bytearray(counts.to_bytes())
    flipped[-30] ^= 1
    for wrong in (b"", b"MSC1", b"x" + sound[1:], counts.to_bytes()[:-4], bytes(flipped)):
        with pytest.raises(ValueError, match="no counts of a day"):
            DayCounts.from_bytes(wrong)
    monkeypatch.setattr(DayCounts, "FORMAT", 3)
    newer = counts.to_bytes()
    monkeypatch.undo()
    with pytest.raises(ValueError, match="format 3; this muse_stream reads formats up to 2"):
        DayCounts.from_bytes(newer)
