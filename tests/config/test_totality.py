"""Routes: proofs and counterexamples, checked against trying every intent."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.config import Document, RouteSpec, TenantSpec, Totality, prove_total, totality
from muse_stream.config.event import AttributeSource, EventSpec
from muse_stream.config.source import parse
from muse_stream.config.totality import OTHER
from tests.config.example_config import FILE, TEXT, changed

SOURCE = parse(FILE, TEXT.encode())
CHANNELS = ("card-event", "channel")
LAST = (
    "  - live: cards                                          # no `when`: everything else\n    shadow: [cards-next]\n"
)


def document_of(*changes: tuple[str, str]) -> Document:
    return Document.model_validate(parse(Path("x"), changed(*changes).encode()).tree)


EXAMPLE = document_of()


def routes(*rules: dict[str, tuple[str, ...]], tenants: int = 1) -> Document:
    """Return a document with these rules, attributes a and b from fields, c constant, and tenants t0, t1, ..."""
    intent = {"a": AttributeSource(field="a"), "b": AttributeSource(header="b"), "c": AttributeSource(value="c0")}
    return EXAMPLE.model_copy(
        update={
            "events": {"e": EventSpec(schema="e.avsc", id="id", intent=intent)},
            "tenants": {f"t{number}": TenantSpec(event="e") for number in range(tenants)},
            "routes": tuple(RouteSpec(when=rule, live="cards") for rule in rules),
        }
    )


def test_the_example_is_total_whatever_comes() -> None:
    assert prove_total(EXAMPLE, {}) == Totality(uncovered=(), unreachable=(), impossible=())


def test_a_counterexample_is_given_per_tenant() -> None:
    document = document_of((LAST, ""))
    proof = prove_total(document, {CHANNELS: {"pos", "ecom", "atm"}})
    assert [example.tenant for example in proof.uncovered] == ["acme", "globex", "initech", "umbrella"]
    assert proof.uncovered[0].intent == {"tenant": "acme", "channel": "atm", "region": OTHER, "use_case": "fraud"}
    problem = proof.problems(SOURCE)[0]
    assert problem.path == "routes"
    assert (
        "tenant 'acme' has no answer for the intent {tenant: acme, channel: atm, region: <any other value>"
        in problem.message
    )
    assert "no `when`" in problem.hint


def test_an_enum_closes_what_is_open_without_it() -> None:
    document = routes({"a": ("x", "y")}, {"a": ("z",)})
    assert prove_total(document, {("e", "a"): {"x", "y", "z"}}).uncovered == ()
    (example,) = prove_total(document, {}).uncovered
    assert example.intent["a"] == OTHER


def test_a_null_is_a_value_that_no_rule_names() -> None:
    (example,) = prove_total(routes({"a": ("x",)}), {("e", "a"): {"x", None}}).uncovered
    assert example.intent["a"] is None
    assert "a: null" in prove_total(routes({"a": ("x",)}), {("e", "a"): {"x", None}}).problems(SOURCE)[0].message


def test_a_constant_is_known_without_being_told() -> None:
    assert prove_total(routes({"c": ("c0",)}), {}).uncovered == ()


def test_an_attribute_that_a_tenant_lacks_never_matches() -> None:
    document = routes({"d": ("x",)}, {})
    proof = prove_total(document, {})
    assert proof.uncovered == ()
    assert proof.unreachable == (0,)


def test_shadowed_and_impossible_rules_are_warnings() -> None:
    proof = prove_total(routes({"a": ("x",)}, {"a": ("x",), "b": ("y",)}, {"a": ("xx",)}, {}), {("e", "a"): {"x", "z"}})
    assert proof.unreachable == (1, 2)
    assert proof.impossible == ((2, "a", "xx", "did you mean 'x'?"),)
    assert [warning.path for warning in proof.warnings(SOURCE)] == ["routes[2].when.a", "routes[1]", "routes[2]"]


def test_rules_that_explode_are_called_unproven_not_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(totality, "MAX_BOXES", 3)
    rules: list[dict[str, tuple[str, ...]]] = [{"a": (f"a{n}",), "b": (f"b{n}",)} for n in range(10)]
    proof = prove_total(routes(*rules), {})
    assert [example.proven for example in proof.uncovered] == [False]
    assert proof.unreachable == ()
    assert "too many combinations" in proof.problems(SOURCE)[0].message


A, B = ("a0", "a1", "a2"), ("b0", "b1")
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "tenant": st.lists(st.sampled_from(["t0", "t1"]), min_size=1, max_size=2, unique=True).map(tuple),
        "a": st.lists(st.sampled_from(A), min_size=1, max_size=3, unique=True).map(tuple),
        "b": st.lists(st.sampled_from(B), min_size=1, max_size=2, unique=True).map(tuple),
    },
)


@settings(max_examples=100, deadline=None)
@given(st.lists(CONDITIONS, min_size=1, max_size=6), st.booleans())
def test_the_proof_agrees_with_trying_every_intent(rules: list[dict[str, tuple[str, ...]]], closed: bool) -> None:
    proof = prove_total(routes(*rules, tenants=2), {("e", "a"): set(A) if closed else None})
    values_a = A if closed else (*A, OTHER)
    reached, unanswered = set(), set()
    for tenant, a, b in product(["t0", "t1"], values_a, (*B, OTHER)):
        intent = {"tenant": tenant, "a": a, "b": b}
        answers = [n for n, rule in enumerate(rules) if all(intent[name] in values for name, values in rule.items())]
        reached |= set(answers[:1])
        unanswered |= set() if answers else {(tenant, a, b)}
    assert {example.tenant for example in proof.uncovered} == {tenant for tenant, _, _ in unanswered}
    assert set(proof.unreachable) == set(range(len(rules))) - reached
    for example in proof.uncovered:
        assert (example.tenant, example.intent["a"], example.intent["b"]) in unanswered
