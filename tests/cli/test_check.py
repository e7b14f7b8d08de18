"""`check` finds every planted mistake at once, each with its path and line, and what would be right."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.avro import SchemaDirectory
from muse_stream.cli.main import main
from muse_stream.commands.check import Checked, check, domains
from muse_stream.config import Document, examine_document, load_document, pre_map_hash
from muse_stream.errors import ConfigError, Problem

ELSE = "  - live: cards                                          # no `when`"
"""The example's last route, which takes everything else."""
EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
Edit = Callable[[str, str], None]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "config")) / "muse.yaml"


@pytest.fixture
def edit(config: Path) -> Edit:
    """`edit(before, after)` replaces one text of the configuration, which must stand there once."""

    def replace(before: str, after: str) -> None:
        text = config.read_text()
        assert text.count(before) == 1, before
        config.write_text(text.replace(before, after))

    return replace


def schema_edit(config: Path, change: Callable[[dict[str, object]], None]) -> None:
    path = config.parent / "schemas" / "card-event.avsc"
    schema = json.loads(path.read_text())
    change(schema)
    path.write_text(json.dumps(schema))


def line_of(config: Path, text: str) -> int:
    return next(number for number, line in enumerate(config.read_text().splitlines(), 1) if text in line)


def one(checked: Checked) -> Problem:
    assert len(checked.problems) == 1, checked.problems
    return checked.problems[0]


def load_draft(config: Path) -> Document:
    return examine_document(config).draft.document


def test_example_of_the_project_is_all_well(config: Path) -> None:
    checked = check(config)
    assert checked.ok, checked.problems
    assert checked.warnings == ()


def test_changed_model_is_named(config: Path) -> None:
    model = config.parent / "models" / "cards-2026q2.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    problem = one(check(config))
    assert problem.path == "models.cards-2026q2"
    assert problem.line == line_of(config, "  cards-2026q2:")
    assert "sha256" in problem.message


def test_a_wrong_hash_of_a_model_is_the_one_thing_said(config: Path, edit: Edit) -> None:
    """Every map fitted for it would not fit: that follows, and to pin them anew would defeat the pin."""
    pin = re.search(r"cards-2026q2:.*?sha256: ([0-9a-f]{64})", config.read_text(), re.DOTALL)
    assert pin is not None
    config.write_text(config.read_text().replace(pin[1], "ab" * 32))
    problem = one(check(config))
    assert problem.path == "models.cards-2026q2" and problem.line == line_of(config, "  cards-2026q2:")
    assert "is another file than the one pinned" in problem.message and "fit its maps anew" in problem.hint
    with pytest.raises(ConfigError) as caught:  # what every other command says of it
        load_document(config)
    assert caught.value.problems == (problem,)


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        ("- cross_border ", "- cross_boarder ", "models.cards-2026q2.inputs.features[3]"),
        (
            "amount: {field: amount, required: true}",
            "amount: {field: amont, required: true}",
            "models.cards-2026q3.inputs.amount",
        ),
        ("version: 3", "version: three", "predictors.cards.version"),
    ],
)
def test_a_wrong_name_is_not_buried_under_the_maps_that_no_longer_fit(
    config: Path, edit: Edit, before: str, after: str, path: str
) -> None:
    edit(before, after)
    problems = check(config).problems
    assert path in {problem.path for problem in problems}
    assert not any("fitted for" in problem.message for problem in problems), problems


@pytest.mark.parametrize(
    ("before", "most"),
    [
        ("\nmodels:", 2),
        ("\npredictors:", 2),
        ("\nevents:", 2),
        ("\ntenants:", 2),
        ("\nreferences:", 1),
        ("\nmaps:", 1),
        ("\ncategories:", 1),
        ("    intent:", 1),
    ],
)
def test_a_misspelt_section_is_not_followed_by_a_line_for_each_name_in_it(
    config: Path, edit: Edit, before: str, most: int
) -> None:
    edit(before, before.replace(before.strip(), f"x{before.strip()}"))
    problems = check(config).problems
    assert any("this key is not known here" in problem.message for problem in problems)
    assert len(problems) <= most, problems  # at most that the right one is missing, beside


def test_a_map_that_does_not_fit_says_what_to_fit_again_and_not_what_to_paste(config: Path, edit: Edit) -> None:
    edit(
        "- {field: customer.tx_per_day, default: 1.5}\n        - {field: cust",
        "- {field: customer.tx_per_day, default: 1.6}\n        - {field: cust",
    )
    checked = check(config)
    assert {problem.message.partition(" was fitted for")[0] for problem in checked.problems} >= {"map 'cards-pooled'"}
    for problem in checked.problems:
        assert "fit it again, on what '" in problem.hint and "fitted_for must" not in problem.hint
        assert not re.search(r"[0-9a-f]{64}", problem.message + problem.hint)
    assert checked.contents["cards"] == pre_map_hash(load_draft(config), "cards"), "what the new map will name"


def test_what_a_broken_schema_leaves_open_is_not_said_to_lack_an_answer(config: Path, edit: Edit) -> None:
    """Routes that name all symbols of an enum answer everything, as long as the enum is known."""
    edit(ELSE, "  - when: {channel: [pos, ecom, atm]}\n    live: cards  # no `when`")
    assert check(config).problems == ()
    schema = config.parent / "schemas" / "card-event.avsc"
    text = schema.read_text()
    schema.write_text("{")
    assert {problem.path for problem in check(config).problems} == {"events.card-event.schema"}
    schema.write_text(text)
    edit("channel: {field: channel}", "channel: {field: canal}")
    for problem in check(config).problems:
        assert "has no answer" not in problem.message
    schema.write_text("{")
    for problem in check(config).problems:
        assert "has no answer" not in problem.message


def test_golden_rows_that_differ(config: Path) -> None:
    golden = config.parent / "golden" / "cards-2026q2.json"
    rows = json.loads(golden.read_text())
    rows["scores"][0] = 0.123
    golden.write_text(json.dumps(rows))
    problem = one(check(config))
    assert problem.path == "models.cards-2026q2.golden"
    assert "row 0" in problem.message
    assert problem.line == line_of(config, "golden: {file")


def test_feature_that_no_event_has(config: Path, edit: Edit) -> None:
    edit("- cross_border ", "- cross_boarder ")
    problems = {problem.path: problem for problem in check(config).problems}
    problem = problems["models.cards-2026q2.inputs.features[3]"]
    assert "no field 'cross_boarder'" in problem.message
    assert "cross_border" in problem.message
    assert problem.line == line_of(config, "- cross_boarder")


def test_feature_of_the_wrong_kind(config: Path, edit: Edit) -> None:
    edit(
        "- {field: channel, categories: channels}         # a string",
        "- {field: channel}         # a string",
    )
    edit(
        "- {field: customer.tx_per_day, default: 1.5}\n        - {field: cust",
        "- {field: terminal.id}\n        - {field: cust",
    )
    edit("amount: {field: amount, required: true}", "amount: {field: amount, categories: channels}")
    problems = {problem.path: problem.message for problem in check(config).problems}
    assert "channel is text" in problems["models.cards-2026q2.inputs.features[2]"]
    assert "terminal.id is text" in problems["models.cards-2026q2.inputs.features[4]"]
    assert "a category table is for text" in problems["models.cards-2026q3.inputs.amount"]


def test_parts_of_an_event_are_checked_each(config: Path, edit: Edit) -> None:
    edit("id: transaction_id", "id: amount")
    edit("time: event_time ", "time: channel ")
    edit("tenant: {field: tenant}", "tenant: {field: amount}")
    edit("channel: {field: channel}", "channel: {field: canal}")
    paths = {problem.path: problem.line for problem in check(config).problems}
    expected = {
        "id": "id: amount",
        "time": "time: channel",
        "tenant.field": "tenant: {field",
        "intent.channel.field": "canal",
    }
    for step, text in expected.items():
        assert paths.get(f"events.card-event.{step}") == line_of(config, text), (step, paths)


def test_broken_schema_and_unreadable_model_are_both_said(config: Path) -> None:
    (config.parent / "schemas" / "card-event-v1.avsc").write_text("{")
    (config.parent / "models" / "blend.onnx").write_bytes(b"no model")
    checked = check(config)
    assert {problem.path for problem in checked.problems} == {"models.blend"}
    (warned,) = [one.message for one in checked.warnings if one.path == "schemas"]
    assert warned.startswith("card-event-v1.avsc: not JSON")


def test_a_broken_schema_that_a_format_names_is_a_problem(config: Path) -> None:
    (config.parent / "schemas" / "card-event.avsc").write_text("{")
    (problem,) = check(config).problems
    assert problem.path == "events.card-event.schema" and problem.message.startswith("card-event.avsc: not JSON")


def test_tenant_without_an_answer_is_shown_its_intent(config: Path, edit: Edit) -> None:
    edit(
        ELSE,
        "  - when: {channel: [pos, ecom]}\n    live: cards  #",
    )
    problems = [problem for problem in check(config).problems if problem.path == "routes"]
    assert problems
    assert all("channel: atm" in problem.message for problem in problems), "the enum's domain is known"


def test_enum_closes_a_domain_so_that_routes_may_name_every_value(config: Path, edit: Edit) -> None:
    edit(
        ELSE,
        "  - when: {channel: [pos, ecom, atm]}\n    live: cards  #",
    )
    assert check(config).ok
    schemas = SchemaDirectory.open(config.parent / "schemas")
    assert domains(load_document(config).document, schemas) == {
        ("card-event", "channel"): frozenset({"pos", "ecom", "atm"})
    }


def test_nullable_enum_leaves_null_without_an_answer(config: Path, edit: Edit) -> None:
    def nullable(schema: dict[str, object]) -> None:
        for field in schema["fields"]:  # type: ignore[attr-defined]
            if field["name"] == "channel":
                field["type"] = ["null", field["type"]]

    schema_edit(config, nullable)
    edit(
        ELSE,
        "  - when: {channel: [pos, ecom, atm]}\n    live: cards  #",
    )
    assert any("null" in problem.message for problem in check(config).problems if problem.path == "routes")


def test_value_that_no_event_can_carry_is_a_warning(config: Path, edit: Edit) -> None:
    edit("channel: ecom}", "channel: ecomm}")
    checked = check(config)
    assert checked.ok
    assert [warning.path for warning in checked.warnings] == ["routes[0]", "routes[0].when.channel"]
    assert "ecomm" in checked.warnings[1].message


def test_mistakes_of_all_kinds_come_together(config: Path, edit: Edit) -> None:
    """In the document, in a model, in a golden file, in a schema: one run tells all of them, by line."""
    edit("version: 3", "version: three")
    edit("predictor: blended, sample: 0.25", "predictor: blendid, sample: 0.25")
    edit("- cross_border ", "- cross_boarder ")
    (config.parent / "models" / "blend.onnx").write_bytes(b"no model")
    problems = check(config).problems
    expected = {
        "models.cards-2026q2.inputs.features[3]",
        "models.blend",
        "predictors.cards.version",
        "routes[0].shadow[0].predictor",
    }
    assert expected <= {problem.path for problem in problems}
    assert not any("fitted for" in problem.message for problem in problems), "what only follows is not said"
    assert [problem.line for problem in problems] == sorted(problem.line or 0 for problem in problems)
    assert all(problem.file == str(config) for problem in problems)


def test_many_topics_in_a_lane_are_a_warning(config: Path, edit: Edit) -> None:
    edit(
        "  acme: {event: card-event} ",
        "".join(f"  t{n}: {{event: card-event}}\n" for n in range(40)) + "  acme: {event: card-event} ",
    )
    checked = check(config)
    assert checked.ok
    assert [warning.message for warning in checked.warnings if "42 scores topics" in warning.message]


@pytest.mark.parametrize("content", ["", "[]", "a: [", "version: 1", "\0", "models: 3"])
def test_any_text_is_answered_with_problems_not_with_a_traceback(config: Path, content: str) -> None:
    config.write_text(content)
    assert check(config).problems


def test_missing_file(tmp_path: Path) -> None:
    assert "No such file" in one(check(tmp_path / "absent.yaml")).message


def test_command_prints_all_well(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config)]) == 0
    out = capsys.readouterr().out
    assert "all well" in out
    assert "globex.risk.scores" in out
    assert "what runs each model" in out


def test_what_runs_each_model_is_told_with_the_reason(
    config: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    output = "    output: {name: probabilities, positive: 1}"
    for given, why in (("", "`backend: auto` compiles trees"), ("\n    backend: auto", "it has no tree ensemble")):
        edit(output, output + given)
        assert main(["check", str(config), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)["backends"]
        assert found["cards-2026q2"] == {"backend": "onnxruntime", "why": why}
    edit(f"{output}\n    backend: auto", f"{output}\n    backend: compiled")
    problem = one(check(config))
    assert problem.path == "models.cards-2026q2"
    assert problem.message.startswith("backend: it cannot be compiled: it has no tree ensemble; `backend: auto`")


def test_command_prints_each_problem_with_place_and_hint(
    config: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    edit("predictor: blended, sample: 0.25", "predictor: blendid, sample: 0.25")
    assert main(["check", str(config)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.search(r"routes\[0\]\.shadow\[0\]\.predictor.*blendid", captured.err)
    place = f"{config}:{line_of(config, 'blendid')}: routes[0].shadow[0].predictor: "
    assert any(line.startswith(place) for line in captured.err.splitlines()), "as compilers do"


def test_command_as_json(config: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    edit("channel: ecom}", "channel: ecomm}")
    assert main(["check", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert [one["path"] for one in found["warnings"]] == ["routes[0]", "routes[0].when.channel"]
    assert main(["check", str(config), "--json", "--strict"]) == 2


def test_schema_is_a_json_schema_on_stdout_or_in_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "predictors" in schema["properties"]
    assert main(["schema", "-o", str(tmp_path / "schema.json")]) == 0
    assert json.loads((tmp_path / "schema.json").read_text()) == schema
