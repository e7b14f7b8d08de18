"""Frames: what stands before a record, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.avro import framing
from muse_stream.errors import Reason, Stage


@given(st.integers(0, 2**31 - 1), st.binary(max_size=20))
def test_confluent_round_trip(number: int, payload: bytes) -> None:
    value = framing.confluent_prefix(number) + payload
    prefix = framing.prefix_of(value)
    assert prefix == b"\x00" + number.to_bytes(4, "big")
    assert framing.schema_id(prefix) == number


@given(st.binary(min_size=8, max_size=8), st.binary(max_size=20))
def test_single_object_round_trip(fingerprint: bytes, payload: bytes) -> None:
    prefix = framing.prefix_of(framing.single_object_prefix(fingerprint) + payload)
    assert prefix == b"\xc3\x01" + fingerprint
    assert framing.schema_id(prefix) is None


@pytest.mark.parametrize("number", [-1, 2**31])
def test_an_id_that_no_registry_gives_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="schema id"):
        framing.confluent_prefix(number)


def test_a_fingerprint_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        framing.single_object_prefix(b"1234567")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "tombstone"),
        (b"", "empty"),
        (b"\x00\x00\x00\x01", "ends inside"),
        (b"\xc3\x01" + b"7" * 7, "ends inside"),
        (b"\xc3\x02" + b"7" * 9, "unknown frame"),
        (b'{"id": 1}', "unknown frame"),
    ],
)
def test_a_value_without_a_frame_is_rejected_and_its_neighbours_are_not(value: bytes | None, said: str) -> None:
    good = framing.confluent_prefix(7) + b"x"
    groups, rejected = framing.group([good, value, good])
    assert {prefix: rows.tolist() for prefix, rows in groups.items()} == {good[:5]: [0, 2]}
    (one,) = rejected
    assert (one.row, one.reason, one.stage) == (1, Reason.UNDECODABLE, Stage.DECODE)
    assert said in one.message


@given(
    st.lists(st.none() | st.binary(max_size=12) | st.sampled_from([1, 2]).map(framing.confluent_prefix), max_size=12)
)
def test_every_value_is_in_one_group_or_rejected(values: list[bytes | None]) -> None:
    groups, rejected = framing.group(values)
    rows = [row for rows in groups.values() for row in rows.tolist()]
    assert sorted(rows + [one.row for one in rejected]) == list(range(len(values)))
    assert all((values[row] or b"").startswith(prefix) for prefix, rows in groups.items() for row in rows.tolist())
