"""Loading as a whole: every mistake at once, nothing but ConfigError for anything, warnings, odd YAML."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.config import Source, load_document
from muse_stream.config.loading import examine_source
from muse_stream.config.source import MAX_BYTES, parse
from muse_stream.errors import ConfigError
from tests.config.example_config import FILE, ROOT, TEXT, changed, line_of, load_text, problems_of, said

SOURCE = parse(FILE, TEXT.encode())


def test_the_example_loads_without_a_warning() -> None:
    loaded = load_document(FILE)
    assert loaded.root == ROOT
    assert loaded.warnings == ()
    assert loaded.source.data == FILE.read_bytes()
    assert list(loaded.document.predictors) == ["cards", "cards-next", "blended", "unmapped", "cautious"]


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file() -> None:
    text = changed(
        ("golden: {file", "goldn: {file"),  # an unknown key ...
        ("uri: models/blend.onnx", "uri: models/blent.onnx"),  # ... a missing file ...
        ("0.5: 0.35, 0.6: 0.10", "0.5: 0.35, 0.6: 0.40"),  # ... a value out of order ...
        (
            "experts: [{model: cards-2026q2, beta: 0.1}]",
            "experts: [{model: card-2026q2, beta: -1.1}]",
        ),  # ... two in one
        ("a: {model: cards-2026q2}", "a: {clip: {input: score}}"),  # ... a cycle ...
        ("live: cautious", "live: cautios"),  # ... an unknown name ...
        ("    id: transaction_id\n", ""),  # ... a missing key ...
        ("lane: small, topics: *shared", 'lane: tiny, topics: {events: "muse.events.small"}'),  # ... a collision ...
        ("max_batch: 10000", "max_batch: none"),  # ... and a word for a number
    )
    assert [problem.path for problem in problems_of(text)] == [
        "models.cards-2026q2.goldn",
        "models.blend.uri",
        "references.standard.alert_rates",
        "predictors.cards.experts[0].beta",
        "predictors.cards.experts[0].model",
        "predictors.unmapped.nodes.a",
        "events.card-event.id",
        "routes[1].live",
        "tenants.umbrella.lane",
        "limits.max_batch",
    ]
    assert all(problem.line and problem.hint and problem.file == str(FILE) for problem in problems_of(text))


def test_routes_that_are_left_out_do_not_move_the_others() -> None:
    text = changed(
        ("sample: 0.25", "sample: 7"),
        ("- live: cards   ", "- live: cards\n    shadow: [cards]\n    when: {}\n  - live: cards"),
    )
    assert {problem.path for problem in problems_of(text)} == {"routes[0].shadow[0].sample", "routes[2].shadow[0]"}


def test_every_duplicate_key_is_reported_and_the_rest_is_still_read() -> None:
    text = changed(
        ("  smooth: {", "  standard: {quantiles: {levels: [0, 1], values: [0, 1]}}\n  smooth: {"),
        ("    output: score\n", "    output: score\n    output: mapped\n"),
        ("live: cautious", "live: cautios"),
    )
    problems = problems_of(text)
    assert [problem.path for problem in problems] == [
        "references.standard",
        "predictors.blended.output",
        "routes[1].live",
    ]
    assert problems[0].line == line_of(text, "  standard: {quantiles")
    assert problems[1].line == line_of(text, "    output: mapped")


def test_a_secret_is_refused_and_never_repeated() -> None:
    text = changed(
        ("uri: models/blend.onnx", "uri: http://me:hunter2@host/x"),
        ("limits:\n", "limits:\n  sasl.password: hunter2\n"),
    )
    assert len(problems_of(text)) == 2
    assert "hunter2" not in said(problems_of(text))


def test_words_that_only_contain_secret_words_are_fine() -> None:
    text = changed(("  channels: {pos", "  spare: {token: 7}\n  channels: {pos"), ("use_case: {value", "token: {value"))
    assert problems_of(text) == ()


@pytest.mark.parametrize(
    ("change", "path", "says"),
    [
        (("  - live: cards                                          # no",
         "  - when: {tenant: acme}\n    live: cards  # no"), "", ""),
        (("- when: {region: [br, mx]}", "- when: {}"), "routes[2]", "no intent reaches this rule"),
        (("use_case: {value: fraud}",
         "use_case: {value: fraud}\n  other: {schema: card-event.avsc, id: transaction_id}"),
         "events.other", "no tenant sends"),
        (("    shadow: [unmapped]\n", ""), "predictors.unmapped", "no route names"),
        (("channels: {pos", "spare: {x: 1}\n  channels: {pos"), "categories.spare", "no feature uses"),
        (("  smooth:", "  spare: {quantiles: {levels: [0, 1], values: [0, 1]}}\n  smooth:"), "references.spare",
         "no quantile map"),
        ((", tenants: {acme: cards-acme}", ""), "maps.cards-acme", "no predictor uses"),
        (("when: {tenant: [acme, globex], channel: ecom}", "when: {use_case: frauds}"), "routes[0].when.use_case",
         "no event has"),
    ],
)  # fmt: skip
def test_what_is_allowed_but_probably_not_meant_is_a_warning(change: tuple[str, str], path: str, says: str) -> None:
    found = load_text(changed(change)).warnings
    assert not path or any(warning.path == path and says in warning.message and warning.line for warning in found)
    assert path or found == ()


def test_many_own_output_topics_in_a_lane_are_a_warning() -> None:
    more = "".join(f"  bank-{number}: {{event: card-event}}\n" for number in range(31))
    found = load_text(changed(("\ntenants:\n", f"\ntenants:\n{more}"))).warnings
    assert [warning.path for warning in found] == ["topics.scores", "topics.audit"]
    assert "lane 'main' writes to 33 scores topics" in found[0].message
    assert "muse.scores.{lane}" in found[0].hint


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "mapping"),
        (b"- 1\n- 2", "mapping"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a: [1", "not YAML"),
        (b"a: b: c", "not YAML"),
        (b"a: &x [*x]", "is not known here"),
        (b"[" * 1000, "not YAML"),
        (b"x: " + b"[" * 60 + b"]" * 60, "too deep"),
        (b"? [1, 2]\n: 3", "not supported"),
        (b"#" * (MAX_BYTES + 1), "bytes"),
        (b"a: 1\n---\nb: 2", "not YAML"),
    ],
)
def test_odd_files_are_refused_in_words(data: bytes, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        raise ConfigError(examine_source(parse(Path("odd.yaml"), data), ROOT).problems)
    assert says in str(refused.value)


def test_aliases_that_multiply_are_refused() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 8))
    with pytest.raises(ConfigError, match="too large"):
        parse(Path("laughs.yaml"), f"l0: &l0 [x]\n{levels}".encode())


def test_a_file_that_is_not_there_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_document(tmp_path / "muse.yaml")


def test_a_merged_key_is_read_and_named_where_it_came_in() -> None:
    text = changed(
        ("topics: {scores: globex.risk.scores}", "topics: &own {scores: globex.risk.scores}"),
        ("topics: &shared {events", "topics: &shared {<<: *own, events"),
    )
    assert load_text(text).document.tenants["initech"].topics.scores == "muse.scores.{lane}"


def test_yaml_is_version_1_2() -> None:
    text = changed(("region: [br, mx]", "region: [no, on, 0o7x]"))
    assert load_text(text).document.routes[1].when["region"] == ("no", "on", "0o7x")


def test_a_copy_elsewhere_loads_the_same(tmp_path: Path) -> None:
    shutil.copytree(ROOT, tmp_path / "generation")
    assert load_document(tmp_path / "generation" / "muse.yaml").document == load_document(FILE).document


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 1 << 70), st.floats(), st.text(max_size=8), st.just([]), st.just({}),
    st.sampled_from(["cards", "acme", "ecom", "score", "{lane}", "../x", "blend", "\0", "a" * 300, "1e5", "*"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3)
)


def _places(node: Any) -> list[tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in keys] + [place for key in keys for place in _places(node[key])]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_no_change_of_the_tree_gives_anything_but_a_configuration_error(data: st.DataObject) -> None:
    tree = copy.deepcopy(SOURCE.tree)
    for _ in range(data.draw(st.integers(1, 3))):
        places = _places(tree)
        parent, key = places[data.draw(st.integers(0, len(places) - 1))]
        kind = data.draw(st.sampled_from(["replace", "remove", "move"]))
        if kind == "replace":
            parent[key] = data.draw(VALUES)
        elif kind == "remove":
            del parent[key]
        else:
            other, place = places[data.draw(st.integers(0, len(places) - 1))]
            parent[key] = copy.deepcopy(other[place])
    examined = examine_source(Source(FILE, b"", tree, SOURCE.lines), ROOT)
    assert (examined.loaded is None) == bool(examined.problems)
    assert all(problem.path and problem.message for problem in examined.problems)


LINES = TEXT.splitlines(keepends=True)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, len(LINES) - 1),
    st.integers(0, 60),
    st.text(alphabet="{}[]:,-&*!|>'\"# \n\tax01?%@`", max_size=6),
    st.booleans(),
)
def test_no_change_of_the_text_gives_anything_but_a_configuration_error(
    line: int, at: int, text: str, cut: bool
) -> None:
    mangled = LINES[line][:at] + text + LINES[line][at + 3 * cut :]
    try:
        load_text("".join([*LINES[:line], mangled, *LINES[line + 1 :]]))
    except ConfigError as error:
        assert error.problems


@pytest.mark.parametrize("text", ["models: !python/object:os.system {a: 1}", "routes: !!python/tuple [1, 2]"])
def test_a_tag_on_a_mapping_or_list_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "muse.yaml").write_text(f"version: 1\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_document(tmp_path / "muse.yaml")
    tagged = [problem for problem in caught.value.problems if problem.message.startswith("the tag")]
    assert [(problem.path, problem.line) for problem in tagged] == [(text.partition(":")[0], 2)]
