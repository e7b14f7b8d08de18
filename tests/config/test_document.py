"""Documents as values: graphs of both predictor forms, content hashes, topics, and the JSON Schema."""

import math
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from muse_stream.config import (
    AggregateNode,
    ClipNode,
    CorrectionNode,
    Document,
    MapNode,
    ModelNode,
    TenantTopics,
    content_hash,
    json_schema,
    load_document,
    pre_map_hash,
)
from muse_stream.config.source import parse
from tests.config.example_config import FILE, TEXT, changed


def tree_of(*changes: tuple[str, str]) -> Any:
    return parse(Path("x.yaml"), changed(*changes).encode()).tree


def document_of(*changes: tuple[str, str]) -> Document:
    return Document.model_validate(tree_of(*changes))


EXAMPLE = document_of()


def test_the_short_form_is_a_graph() -> None:
    graph = EXAMPLE.predictors["cards-next"].graph()
    assert graph.nodes == {
        "experts[0]": ModelNode(model="cards-2026q2"),
        "experts[0].beta": CorrectionNode(input="experts[0]", beta=0.1),
        "experts[1]": ModelNode(model="cards-2026q3"),
        "experts[1].beta": CorrectionNode(input="experts[1]", beta=0.2),
        "aggregate": AggregateNode(how="logit_mean", inputs=("experts[0].beta", "experts[1].beta"), weights=(1.0, 2.0)),
        "quantile_map": MapNode(input="aggregate", reference="standard", default="next-pooled"),
    }
    assert graph.output == "quantile_map"
    assert graph.pre_map_node() == "aggregate"


def test_a_single_expert_without_correction_and_map_is_one_node() -> None:
    refs = "\n    quantile_map: {reference: standard, default: cards-pooled, tenants: {acme: cards-acme}}"
    graph = document_of((refs, ""), ("2026q2, beta: 0.1}]", "2026q2}]")).predictors["cards"].graph()
    assert dict(graph.nodes) == {"experts[0]": ModelNode(model="cards-2026q2")}
    assert graph.output == graph.pre_map_node() == "experts[0]"


def test_a_short_predictor_may_aggregate_by_a_meta_model() -> None:
    predictor = document_of(("aggregate: max", "aggregate: {model: blend}")).predictors["cautious"]
    assert predictor.graph().nodes["aggregate"] == AggregateNode(
        model="blend", inputs=("experts[0].beta", "experts[1].beta")
    )
    assert predictor.where("aggregate") == ("aggregate",)


def test_a_zero_weight_is_allowed_beside_others_but_not_alone() -> None:
    graph = document_of(("weight: 2.0", "weight: 0")).predictors["cards-next"].graph()
    assert graph.nodes["aggregate"] == AggregateNode(
        how="logit_mean", inputs=("experts[0].beta", "experts[1].beta"), weights=(1.0, 0.0)
    )
    with pytest.raises(ValidationError, match="all weights are zero"):
        document_of(("[{model: cards-2026q2, beta: 0.1}]", "[{model: cards-2026q2, weight: 0}]"))


def test_the_general_form_keeps_its_names_and_finds_the_map_behind_a_clip() -> None:
    graph = EXAMPLE.predictors["blended"].graph()
    assert graph.nodes["score"] == ClipNode(input="mapped", low=0.001, high=0.999)
    assert graph.pre_map_node() == "both"
    assert graph.experts() == {"cards-2026q2", "cards-2026q3"}
    assert graph.meta_models() == EXAMPLE.meta_models() == {"blend"}
    order = graph.order()
    assert all(order.index(source) < order.index(name) for name, node in graph.nodes.items() for source in node.sources)


def test_weights_are_spelt_out_where_they_mean_something() -> None:
    graph = document_of((", weights: [1, 2]", "")).predictors["unmapped"].graph()
    assert graph.nodes["score"] == AggregateNode(how="mean", inputs=("a", "b"), weights=(1.0, 1.0))


def test_every_node_knows_its_yaml_path() -> None:
    tree = tree_of()
    for name, predictor in EXAMPLE.predictors.items():
        for node in predictor.graph().nodes:
            place: Any = tree["predictors"][name]
            for step in predictor.where(node):
                place = place[step]
            assert place is not None


def test_both_forms_of_the_same_predictor_have_the_same_hash() -> None:
    general = """  twin:
    version: 9
    nodes:
      x: {model: cards-2026q2}
      y: {posterior_correction: {input: x, beta: 0.1}}
      z: {quantile_map: {input: y, reference: standard, default: cards-pooled}}
    output: z
"""
    document = document_of(("  cards-next:\n", f"{general}  cards-next:\n"))
    expected = pre_map_hash(document, "cards", "quantile_map")
    assert pre_map_hash(document, "twin", "z") == pre_map_hash(document, "twin") == expected


SAME = {
    "version": ("version: 3", "version: 4"),
    "name and place of the model's file": ("uri: models/cards-2026q2.onnx", "uri: elsewhere/x.onnx"),
    "the map itself": ("reference: standard, default: cards-pooled", "reference: strict, default: cards-acme"),
    "golden rows": ("golden: {file: golden/cards-2026q2.json, tolerance: 0.000001}", ""),
}
OTHER = {
    "beta": ("experts: [{model: cards-2026q2, beta: 0.1}]", "experts: [{model: cards-2026q2, beta: 0.11}]"),
    "model": ("sha256: e748", "sha256: f748"),
    "default of a feature": ("default: 1.5", "default: 1.6"),
    "order of features": ("        - cross_border  ", "        - amount\n        - cross_border  "),
    "category table": ("atm: 2", "atm: 3"),
    "positive column": ("positive: 1}", "positive: 0}"),
    "another expert": ("2026q2, beta: 0.1}]", "2026q2, beta: 0.1}, {model: cards-2026q3}]"),
}  # fmt: skip


@pytest.mark.parametrize("change", SAME.values(), ids=SAME.keys())
def test_what_cannot_move_the_aggregate_does_not_change_the_hash(change: tuple[str, str]) -> None:
    assert pre_map_hash(document_of(change), "cards") == pre_map_hash(EXAMPLE, "cards")


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER.keys())
def test_what_can_move_the_aggregate_changes_the_hash(change: tuple[str, str]) -> None:
    assert pre_map_hash(document_of(change), "cards") != pre_map_hash(EXAMPLE, "cards")


NESTED = (
    "both: {aggregate: {model: blend, inputs: [settled-true, retrained-true]}}",
    "even: {quantile_map: "
    "{input: settled-true, reference: strict, default: blend-pooled, tenants: {acme: cards-acme}}}\n"
    "      cut: {clip: {input: even, low: 0.01}}\n"
    "      both: {aggregate: {model: blend, inputs: [cut, retrained-true]}}",
)


@pytest.mark.parametrize(
    "change",
    [
        ("low: 0.01}", "low: 0.02}"),
        ("reference: strict, default: blend", "reference: smooth, default: blend"),
        ("values: [0, 0.01,", "values: [0, 0.02,"),
        ("blend-pooled, tenants: {acme: cards-acme}", "blend-pooled"),
        ("values: [0, 0.3,", "values: [0, 0.31,"),
    ],
)
def test_a_clip_and_a_map_before_the_map_count_with_all_they_say(change: tuple[str, str]) -> None:
    nested = pre_map_hash(document_of(NESTED), "blended", "mapped")
    assert nested != pre_map_hash(EXAMPLE, "blended", "mapped")
    assert nested != pre_map_hash(document_of(NESTED, change), "blended", "mapped")


def test_where_an_earlier_map_is_kept_does_not_count() -> None:
    moved = document_of(NESTED, ("file: maps/cards-acme.json", "file: other.json"))
    assert pre_map_hash(moved, "blended") == pre_map_hash(document_of(NESTED), "blended")


def test_a_category_table_counts_by_its_content_not_by_its_name() -> None:
    renamed = Document.model_validate(parse(Path("x"), TEXT.replace("channels", "ways").encode()).tree)
    assert pre_map_hash(renamed, "cards") == pre_map_hash(EXAMPLE, "cards")


def test_only_a_map_has_a_hash_before_it() -> None:
    with pytest.raises(KeyError):
        pre_map_hash(EXAMPLE, "blended", "both")
    with pytest.raises(KeyError):
        pre_map_hash(EXAMPLE, "no-such-predictor")


def test_content_hash_is_canonical() -> None:
    assert content_hash({"b": 1.0, "a": [1, 2]}) == content_hash({"a": (1, 2), "b": 1.0})
    assert content_hash({"a": 1}) != content_hash({"a": 2})
    assert content_hash(EXAMPLE) == content_hash(load_document(FILE).document)
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"a": float("nan")})


def test_templates_resolve_for_tenant_and_lane() -> None:
    assert EXAMPLE.tenant_topics("globex") == TenantTopics(
        "muse.events.globex", "globex.risk.scores", "muse.audit.globex", "muse.dlq.globex"
    )
    assert EXAMPLE.tenant_topics("umbrella") == TenantTopics(
        "muse.events.small", "muse.scores.small", "muse.audit.small", "muse.dlq.umbrella"
    )
    assert EXAMPLE.unknown_topic("small") == "muse.dlq.small"
    assert EXAMPLE.lanes() == {"main": ("acme", "globex"), "small": ("initech", "umbrella")}
    assert EXAMPLE.attributes("acme") == {"tenant", "channel", "region", "use_case"}


def test_a_document_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        EXAMPLE.limits.max_batch = 3


# A small JSON Schema validator: the keywords that pydantic writes, and no other.
KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float),
    "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
KNOWN = {
    "$defs", "$ref", "$schema", "additionalProperties", "anyOf", "const", "default", "description", "enum",
    "exclusiveMaximum", "exclusiveMinimum", "items", "maxLength", "maximum", "minItems", "minLength", "minProperties",
    "minimum", "oneOf", "pattern", "patternProperties", "properties", "propertyNames", "required", "title", "type",
}  # fmt: skip
SCHEMA = json_schema()


def faults(schema: Any, value: Any, path: str = "") -> list[str]:
    assert schema.keys() <= KNOWN, schema.keys() - KNOWN
    if "$ref" in schema:
        return faults(SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], value, path)
    choices = schema.get("anyOf") or schema.get("oneOf") or []
    if choices and not any(not faults(choice, value, path) for choice in choices):
        return [f"{path}: fits no choice"]
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or isinstance(value, bool) != (kind == "boolean")):
        return [f"{path}: not {kind}"]
    if ("enum" in schema and value not in schema["enum"]) or ("const" in schema and value != schema["const"]):
        return [f"{path}: another value"]
    found = []
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        found.append(f"{path}: pattern")
    if isinstance(value, int | float) and not (
        schema.get("minimum", value) <= value <= schema.get("maximum", value)
        and schema.get("exclusiveMinimum", -math.inf) < value
    ):
        found.append(f"{path}: range")
    if isinstance(value, list):
        found += [
            fault for n, item in enumerate(value) for fault in faults(schema.get("items", {}), item, f"{path}[{n}]")
        ]
        found += [f"{path}: too few"] * (len(value) < schema.get("minItems", 0))
    if isinstance(value, dict):
        found += [f"{path}.{name}: missing" for name in schema.get("required", []) if name not in value]
        found += [fault for name, item in value.items() for fault in member_faults(schema, str(name), item, path)]
    return found


def member_faults(schema: Any, name: str, value: Any, path: str) -> list[str]:
    below = schema.get("properties", {}).get(name)
    patterns = [inner for pattern, inner in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
    below = below or (patterns[0] if patterns else schema.get("additionalProperties", {}))
    return [f"{path}.{name}: unknown"] if below is False else faults(below, value, f"{path}.{name}")


def test_the_json_schema_accepts_the_example() -> None:
    assert faults(SCHEMA, tree_of()) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("version: 1\n", "version: 2\n"), ".version: another value"),
        (("max_batch: 10000", "max_batch: 0"), ".limits.max_batch: range"),
        (("\nlimits:", "\nlimit:"), ".limit: unknown"),
        (("id: transaction_id", "id: 7"), ".events.card-event.id: not string"),
        (("    id: transaction_id\n", ""), ".events.card-event.id: missing"),
        (("aggregate: max", "aggregate: most"), ".predictors.cautious: fits no choice"),
    ],
)
def test_the_json_schema_refuses_what_the_loader_refuses(change: tuple[str, str], fault: str) -> None:
    assert faults(SCHEMA, tree_of(change)) == [fault]


def test_every_field_is_described_in_the_json_schema() -> None:
    undescribed = [
        f"{name}.{field}"
        for name, part in {**SCHEMA["$defs"], "Document": SCHEMA}.items()
        for field, schema in part.get("properties", {}).items()
        if not schema.get("description")
    ]
    assert undescribed == []
