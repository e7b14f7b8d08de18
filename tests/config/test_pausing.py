"""`paused` of tenants, set and taken out again in the text of a document: comments, order and layout stay."""

from pathlib import Path
from typing import Any

import pytest

from muse_stream.config import parse, pause
from muse_stream.errors import ConfigError
from tests.config.example_config import ROOT

BLOCK = """# a bank
tenants:
  acme: # the first
    # how it sends
    event: payment # an Avro record
    lane: small
  globex:
    event: payment
routes: []
"""
PAUSED_BLOCK = BLOCK.replace("    event: payment # an", "    paused: true\n    event: payment # an")
FORMS = {
    "block": BLOCK,
    "flow": "tenants: {acme: {event: payment, lane: small}, globex: {event: payment}}\n",
    "flow-in-block": "tenants:\n  acme: {event: payment}  # one\n  globex: {event: payment}\n",
    "json": '{"tenants": {"acme": {"event": "payment"}, "globex": {"event": "payment"}}}\n',
    "windows": BLOCK.replace("\n", "\r\n"),
    "byte-order-mark": "\ufeff" + BLOCK,
    "quoted": "'tenants':\n  'acme':\n    'event': payment\n  \"globex\":\n    event: payment\n",
    "said-false": "tenants:\n  acme:\n    event: payment\n    paused: false # for now\n  globex: {event: payment}\n",
    "no-newline": "tenants:\n  globex: {event: payment}\n  acme:\n    event: payment",
    "alias": "tenants:\n  globex: &usual {event: payment, lane: small}\n  acme: *usual # the same\n",
    "anchor": "tenants:\n  acme: &usual\n    event: payment\n  globex: *usual\n  initech: *usual\n",
    "merged-into": "tenants:\n  acme: &usual\n    event: payment\n  globex:\n    <<: *usual\n    lane: small\n",
    "merged-from": "tenants:\n  globex: &usual {event: payment}\n  acme:\n    <<: *usual\n    lane: small\n",
    "only-merged": "tenants:\n  globex: &usual {event: payment}\n  acme: {<<: *usual}\n",
    "nested": (
        "tenants:\n  acme:\n    topics:\n      events: a.b\n      scores: >-\n        folded\n    event: payment\n"
        "  globex: {event: payment}\n"
    ),
}


def tenants(text: str) -> dict[str, Any]:
    found: dict[str, Any] = parse(Path("muse.yaml"), text.encode()).tree["tenants"]
    return {name: {"paused": False, **one} for name, one in found.items()}


@pytest.mark.parametrize("form", FORMS)
def test_one_tenant_is_paused_and_no_other_changes(form: str) -> None:
    text, before = FORMS[form], tenants(FORMS[form])
    paused = pause(text, ["acme"], paused=True)
    assert tenants(paused) == {**before, "acme": {**before["acme"], "paused": True}}
    assert pause(paused, ["acme"], paused=True) == paused
    resumed = pause(paused, ["acme"], paused=False)
    assert tenants(resumed) == before
    assert "#" not in text or [part for part in resumed.split() if "#" in part] == [p for p in text.split() if "#" in p]


@pytest.mark.parametrize(
    "form", ["block", "flow", "flow-in-block", "json", "windows", "byte-order-mark", "quoted", "nested"]
)
def test_a_pause_and_a_resume_leave_no_trace(form: str) -> None:
    assert pause(pause(FORMS[form], ["acme"], paused=True), ["acme"], paused=False) == FORMS[form]


def test_the_rest_keeps_its_bytes() -> None:
    assert pause(BLOCK, ["acme"], paused=True) == PAUSED_BLOCK
    assert pause(FORMS["json"], ["acme"], paused=True).startswith('{"tenants": {"acme": {"paused": true, "event"')
    assert pause(FORMS["said-false"], ["acme"], paused=True) == FORMS["said-false"].replace("false #", "true #")


def test_a_comment_on_the_line_stays() -> None:
    text = BLOCK.replace("lane: small", "paused: true # since Monday, ticket 12")
    assert pause(text, ["acme"], paused=False) == text.replace("paused: true", "paused: false")


def test_several_at_once() -> None:
    assert {name for name, one in tenants(pause(BLOCK, ["acme", "globex"], paused=True)).items() if one["paused"]} == {
        "acme",
        "globex",
    }


def test_the_example_of_the_project() -> None:
    text = (ROOT / "muse.yaml").read_text()
    for name in tenants(text):
        paused = pause(text, [name], paused=True)
        assert tenants(paused)[name]["paused"]
        assert pause(paused, [name], paused=False) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BLOCK, "there is no tenant 'acne'.*acme"),
        ("tenants: &all\n  acne: {event: payment}\ncopy: *all\n", "cannot be changed"),
        ("base: &base\n  acne: {event: payment}\ntenants:\n  <<: *base\n", "not written out"),
    ],
)
def test_what_cannot_be_done_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        pause(text, ["acne"], paused=True)
