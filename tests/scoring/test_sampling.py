"""Sampling: a function of the id alone, close to its rate, and nested."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.scoring.sampling import hashed, position, sampled

ids_lists = st.lists(st.text(min_size=0, max_size=20).map(lambda text: text.encode().rstrip(b"\0")), min_size=1)


def fnv_and_mix(data: bytes) -> int:
    """Return the same hash byte by byte, as its authors wrote it down."""
    mask = (1 << 64) - 1
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & mask
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = ((value ^ (value >> 33)) * factor) & mask
    return value ^ (value >> 33)


@given(ids_lists)
def test_is_fnv_1a_with_the_murmur_finaliser(ids: list[bytes]) -> None:
    assert hashed(np.array(ids, dtype=np.bytes_)).tolist() == [fnv_and_mix(one) for one in ids]


@given(ids_lists, st.integers(1, 40))
def test_width_and_company_do_not_matter(ids: list[bytes], extra: int) -> None:
    array = np.array(ids, dtype=np.bytes_)
    wider = array.astype(f"S{array.dtype.itemsize + extra}")
    alone = [hashed(np.array([one], dtype=np.bytes_))[0] for one in ids]
    assert hashed(array).tolist() == hashed(wider).tolist() == alone


@given(ids_lists, st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_smaller_sample_is_part_of_a_larger_one(ids: list[bytes], one: float, other: float) -> None:
    array = np.array(ids, dtype=np.bytes_)
    small, large = sorted((one, other))
    assert not (sampled(array, small) & ~sampled(array, large)).any()


@pytest.mark.parametrize("rate", [0.01, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("template", ["{}", "tx-{:012d}", "{:032x}"])
def test_the_share_is_the_rate(rate: float, template: str) -> None:
    ids = np.array([template.format(number) for number in range(20_000)], dtype=np.bytes_)
    assert sampled(ids, rate).mean() == pytest.approx(rate, abs=4 * np.sqrt(rate * (1 - rate) / 20_000))


def test_all_at_one_and_none_at_zero() -> None:
    ids = np.array([str(number) for number in range(1000)], dtype=np.bytes_)
    assert sampled(ids, 1.0).all()
    assert not sampled(ids, 0.0).any()
    assert position(ids[:0]).tolist() == []
