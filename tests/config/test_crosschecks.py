"""What fields mean to each other: one row per rule, and the problem that must be reported, with path, line and hint."""

import pytest

from tests.config.example_config import TEXT, Rule, changed, expect_problem, load_text, problems_of, said

NAMES = (
    Rule("model", "experts: [{model: cards-2026q2, beta: 0.1}]", "experts: [{model: card-2026q2, beta: 0.1}]",
         "predictors.cards.experts[0].model", "unknown model 'card-2026q2'", "did you mean 'cards-2026q2'?"),
    Rule("model of a node", "b: {model: cards-2026q3}", "b: {model: nothing-like-it}",
         "predictors.unmapped.nodes.b.model",
         "unknown model", "known: blend, cards-2026q2, cards-2026q3"),
    Rule("meta-model", "{model: blend, inputs", "{model: blnd, inputs",
         "predictors.blended.nodes.both.aggregate.model",
         "unknown model 'blnd'", "did you mean 'blend'?"),
    Rule("categories", "categories: channels}         #", "categories: chanels}         #",
         "models.cards-2026q2.inputs.features[2].categories", "unknown category table", "'channels'"),
    Rule("reference", "reference: strict", "reference: strikt", "predictors.cautious.quantile_map.reference",
         "unknown reference", "'strict'"),
    Rule("default map", "default: next-pooled", "default: nxt-pooled", "predictors.cards-next.quantile_map.default",
         "unknown map", "'next-pooled'"),
    Rule("map of a tenant", "{acme: cards-acme}", "{acme: cards-akme}", "predictors.cards.quantile_map.tenants.acme",
         "unknown map", "'cards-acme'"),
    Rule("tenant of a map", "{acme: cards-acme}", "{akme: cards-acme}", "predictors.cards.quantile_map.tenants.akme",
         "unknown tenant", "'acme'"),
    Rule("live", "live: cautious", "live: cautios", "routes[1].live", "unknown predictor", "'cautious'"),
    Rule("live share", "live: cautious", "live: {cautios: 0.5, cards: 0.5}", "routes[1].live.cautios",
         "unknown predictor", "'cautious'"),
    Rule("shadow", "{predictor: blended, sample", "{predictor: blendet, sample", "routes[0].shadow[0].predictor",
         "unknown predictor", "'blended'"),
    Rule("short shadow", "shadow: [unmapped]", "shadow: [unmaped]", "routes[1].shadow[0]", "unknown predictor",
         "'unmapped'"),
    Rule("attribute", "when: {region: [br, mx]}", "when: {regoin: [br, mx]}", "routes[1].when.regoin",
         "no event format has the intent attribute", "'region'"),
    Rule("tenant of a route", "tenant: [acme, globex]", "tenant: [acme, globx]", "routes[0].when.tenant[1]",
         "unknown tenant",
         "'globex'"),
    Rule("days of drift", "  recent: 7 ", "  recent: 31 ", "drift.recent",
         "31 days of the stability index and the distance, and only 30 are looked at", "at most `days`"),
    Rule("a tenant's days of drift", "umbrella: {", "umbrella: {drift: {days: 6}, ", "tenants.umbrella.drift",
         "7 days of the stability index", "at most `days`"),
    Rule("event format", "umbrella: {event: card-event", "umbrella: {event: card-evnt", "tenants.umbrella.event",
         "unknown event format", "'card-event'"),
)  # fmt: skip

GRAPHS = (
    Rule("missing node", "inputs: [a, b], weights: [1, 2]", "inputs: [a, b, none], weights: [1, 2, 3]",
         "predictors.unmapped.nodes.score.aggregate.inputs[2]", "no node 'none'", "known: a, b, score"),
    Rule("missing output", "high: 0.999}}\n    output: score", "high: 0.999}}\n    output: skore",
         "predictors.blended.output",
         "no node 'skore'", "'score'", "output: skore"),
    Rule("unreachable node", "      b: {model: cards-2026q3}",
         "      b: {model: cards-2026q3}\n      idle: {clip: {input: a}}",
         "predictors.unmapped.nodes.idle", "does not depend on this node", "remove it", "idle:"),
    Rule("cycle", "a: {model: cards-2026q2}", "a: {clip: {input: score}}", "predictors.unmapped.nodes.a",
         "in a cycle: a -> score -> a", "cut one"),
    Rule("arity of a meta-model", "[settled, retrained]", "[settled, retrained, third]",
         "predictors.blended.nodes.both.aggregate.model", "reads 3 scores, but 2 are given", "one feature per",
         "both:"),
    Rule("features of a meta-model", "[settled, retrained]", "[settled, {field: retrained, default: 1}]",
         "models.blend.inputs.scores[1]", "reads scores", "the name alone"),
    Rule("expert and meta-model", "a: {model: cards-2026q2}", "a: {model: blend}", "models.blend",
         "as an expert and as a meta-model", "declare two models", "  blend:\n"),
)  # fmt: skip

MAPPING = (
    Rule("tenant without a map", "default: cards-pooled, tenants: {acme", "tenants: {acme",
         "predictors.cards.quantile_map",
         "no map for tenants that routes lead here: globex, initech, umbrella", "default: MAP"),
    Rule("shadow of itself", "shadow: [cards-next]", "shadow: [cards-next, cards]", "routes[2].shadow[1]",
         "is the live predictor of this route", "remove it"),
    Rule("shadow twice", "shadow: [unmapped]", "shadow: [unmapped, unmapped]", "routes[1].shadow[1]", "named twice",
         "once"),
    Rule("map of another predictor", "default: next-pooled", "default: cautious-pooled",
         "predictors.cards-next.quantile_map.default", "was fitted for",
         "it was fitted for 'cautious': give 'cards-next' a map of its own"),
    Rule("another beta", "experts: [{model: cards-2026q2, beta: 0.1}, {model",
         "experts: [{model: cards-2026q2, beta: 0.2}, {model",
         "predictors.cautious.quantile_map.default", "was fitted for", "fit it again", "default: cautious-pooled"),
)  # fmt: skip

TOPICS = (
    Rule("length", "globex.risk.scores", "g" * 250, "tenants.globex.topics.scores", "has 250 characters", "249"),
    Rule("dots", "globex.risk.scores", "..", "tenants.globex.topics.scores", "not a legal topic name", "letters"),
    Rule("output on an event topic", "globex.risk.scores", "muse.events.acme", "tenants.globex.topics.scores",
         "is also the topic for events of tenant 'acme'", "of its own"),
    Rule("scores on an audit topic", "globex.risk.scores", "muse.audit.acme", "tenants.acme",
         "for scores of tenant 'globex'",
         "of its own", "  acme:"),
    Rule("topics that Kafka confuses", "globex.risk.scores", "muse.scores_acme", "tenants.globex.topics.scores",
         "differ only in '.' and '_'", "rename one"),
    Rule("shared topic without a tenant", "    tenant: {field: tenant}\n", "", "events.card-event",
         "tenants initech, umbrella share the event topic 'muse.events.small'", "add `tenant:", "  card-event:\n"),
    Rule("shared topic in two lanes", "lane: small, topics: *shared",
         'lane: tiny, topics: {events: "muse.events.small"}',
         "tenants.umbrella.lane", "but not a lane", "lane: small"),
)  # fmt: skip

FILES = (
    Rule("no such model", "uri: models/blend.onnx", "uri: models/blent.onnx", "models.blend.uri", "no file",
         "'blend.onnx'"),
    Rule("a folder", "uri: models/blend.onnx", "uri: models", "models.blend.uri", "is not a file", "path of a file",
         "uri: models\n"),
    Rule("parent folder", "uri: models/blend.onnx", "uri: ../config/models/blend.onnx", "models.blend.uri",
         "leads out", "inside"),
    Rule("absolute path", "uri: models/blend.onnx", "uri: /etc/passwd", "models.blend.uri", "leads out",
         "inside its folder"),
    Rule("a URL of this machine", "uri: models/blend.onnx", "uri: file:///blend.onnx", "models.blend.uri",
         "is not fetched", "inside"),
    Rule("a backslash", "uri: models/blend.onnx", 'uri: "..\\\\blend.onnx"', "models.blend.uri", "plain relative",
         "inside"),
    Rule("no golden file", "golden/cards-2026q2.json", "golden/cards-2026q22.json", "models.cards-2026q2.golden.file",
         "no file",
         "'cards-2026q2.json'"),
    Rule("no map file", "maps/cards-acme.json", "maps/cards-akme.json", "maps.cards-acme.file", "no file",
         "'cards-acme.json'"),
    Rule("no schemas", "\nschemas: schemas", "\nschemas: schema", "schemas", "no file 'schema'", "'schemas'",
         "schemas: schema"),
    Rule("no schema", "schema: card-event.avsc ", "schema: card-events.avsc ", "events.card-event.schema", "no file",
         "'card-event.avsc'"),
    Rule("a schema elsewhere", "schema: card-event.avsc ", "schema: ../muse.yaml ", "events.card-event.schema",
         "not a file of the schemas folder", "name an .avsc file"),
    Rule("map with another hash", "json, sha256: a40b", "json, sha256: b40b", "maps.cards-pooled.sha256",
         "has another sha256", "put back the file that was pinned"),
)  # fmt: skip

TABLES = {"name": NAMES, "graph": GRAPHS, "mapping": MAPPING, "topic": TOPICS, "file": FILES}


@pytest.mark.parametrize(
    "rule", [pytest.param(rule, id=f"{kind}: {rule.name}") for kind, rules in TABLES.items() for rule in rules]
)
def test_a_broken_rule_is_reported_with_its_path_line_and_hint(rule: Rule) -> None:
    expect_problem(rule)


def test_the_example_itself_breaks_no_rule() -> None:
    assert problems_of(TEXT) == ()


def test_tenants_on_one_topic_need_one_event_format() -> None:
    other = "  other-event: {schema: card-event.avsc, id: transaction_id, tenant: {field: tenant}}\n"
    text = changed(
        ("umbrella: {event: card-event", "umbrella: {event: other-event"),
        ("  card-event:\n", f"{other}  card-event:\n"),
    )
    (problem,) = problems_of(text)
    assert problem.path == "tenants.umbrella.event"
    assert "share the event topic 'muse.events.small', but not its format" in problem.message
    assert problem.hint == "both need `event: card-event`"


@pytest.mark.parametrize(
    ("live", "says"),
    [
        ("{cards: 0.9, cautious: 0.2}", "routes[1].live: the shares sum to 1.1"),
        ("{cards: 0.9, cautious: 0}", "routes[1].live.cautious"),
        ("{cards: -0.5, cautious: 1.5}", "routes[1].live.cards"),
        ("{}", "routes[1].live"),
        ("[cards, cautious]", "routes[1].live"),
        ("{cards: 90 %, cautious: 0.1}", "routes[1].live.cards"),
    ],
)
def test_shares_that_are_none_are_refused_where_they_stand(live: str, says: str) -> None:
    found = said(problems_of(changed(("live: cautious", f"live: {live}"))))
    assert says in found


def test_shares_are_read_in_their_order_and_a_name_alone_has_all() -> None:
    document = load_text(changed(("live: cautious", "live: {cautious: 0.9, unmapped: 0.1}"))).document
    assert list(document.routes[1].live_shares.items()) == [("cautious", 0.9), ("unmapped", 0.1)]
    assert document.routes[0].live_shares == {"cards": 1.0}


def test_only_who_answers_all_events_cannot_be_a_shadow() -> None:
    both = (
        "live: cautious\n    shadow: [unmapped]",
        "live: {cautious: 0.9, unmapped: 0.1}\n    shadow: [unmapped, cautious]",
    )
    assert problems_of(changed(both)) == ()
    alone = (both[0], "live: {cautious: 1.0}\n    shadow: [unmapped, cautious]")
    assert "'cautious' is the live predictor of this route" in said(problems_of(changed(alone)))
