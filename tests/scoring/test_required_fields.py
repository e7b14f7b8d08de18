"""What must be decoded for each event format: enough, and no more."""

import pytest

from muse_stream.config import Document
from muse_stream.scoring.required_fields import RequiredFields, reachable, required_fields_of
from tests.scoring.doubles import document, snapshot

A_FIELDS = ("amount", "channel", "risk")
ALL_FIELDS = ("age", "amount", "channel", "risk")


def two_formats(routes: list[dict[str, object]]) -> Document:
    """Return a document in which initech sends wires: no region, and a constant use case."""
    plain = document(routes).model_dump(by_alias=True, exclude_none=True)
    plain["events"]["wire"] = {
        "schema": "wire.avsc",
        "id": "id",
        "intent": {"channel": {"field": "channel"}, "use_case": {"value": "wires"}},
    }
    plain["tenants"]["initech"] = {"event": "wire"}
    return Document.model_validate(plain)


def test_fields_are_those_of_the_predictors_a_role_runs() -> None:
    spec = document(
        [{"when": {"region": "eu"}, "live": "one", "shadow": [{"predictor": "two", "sample": 0.5}]}, {"live": "one"}]
    )
    assert required_fields_of(spec, "card", "live") == RequiredFields(A_FIELDS, ("region",), ids=False)
    assert required_fields_of(spec, "card", "shadow") == RequiredFields(ALL_FIELDS, ("region",), ids=True)
    assert snapshot(spec).fields == set(A_FIELDS)
    assert snapshot(spec, role="shadow").fields == set(ALL_FIELDS)
    assert snapshot(spec).needs("card") == required_fields_of(spec, "card", "live")


def test_scores_that_a_meta_model_reads_are_no_fields() -> None:
    assert required_fields_of(document([{"live": "meta"}]), "card", "live").fields == ALL_FIELDS


@pytest.mark.parametrize(
    ("when", "reached"),
    [
        ({"tenant": "initech"}, {"card": 1, "wire": 1}),  # takes all wires: they never come to the last rule
        ({"tenant": ["acme", "initech"]}, {"card": 2, "wire": 1}),
        ({"region": "eu"}, {"card": 2, "wire": 1}),  # wires have no region
        ({"use_case": "wires"}, {"card": 1, "wire": 1}),
        ({"use_case": "cards"}, {"card": 1, "wire": 1}),
        ({"channel": "pos"}, {"card": 2, "wire": 2}),
        ({}, {"card": 1, "wire": 1}),
    ],
    ids=str,
)
def test_a_route_counts_where_an_event_can_reach_it(when: dict[str, object], reached: dict[str, int]) -> None:
    spec = two_formats([{"when": when, "live": "two"}, {"live": "one"}])
    assert {event: len(reachable(spec, event)) for event in spec.events} == reached


def test_a_format_is_not_asked_for_fields_of_others() -> None:
    spec = two_formats([{"when": {"use_case": "wires"}, "live": "three"}, {"live": "one"}])
    assert required_fields_of(spec, "card", "live") == RequiredFields(A_FIELDS, (), ids=False)
    assert required_fields_of(spec, "wire", "live") == RequiredFields(ALL_FIELDS, ("use_case",), ids=False)


def test_an_unknown_format_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        snapshot(document([{"live": "one"}])).needs("telegram")
