"""What `acl` prints: the table of docs/kafka-security.md, for any names of topics, and nothing beside it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from muse_stream.cli.main import main
from muse_stream.kafka.permissions import KINDS, NEEDS, Names, grants
from tests.integration.bank import Bank

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "kafka-security.md"
EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "config" / "muse.yaml"
COLUMNS = ("principal", "resource", "pattern", "name", "operations")


def documented() -> Iterator[tuple[str, ...]]:
    section = DOCUMENT.read_text(encoding="utf-8").split("## Permissions\n")[1].split("\n## ")[0]
    lines = [tuple(line.strip("| ").split(" | ")) for line in section.splitlines() if line.startswith("| ")]
    start = lines.index(COLUMNS)
    for line in lines[start + 1 :]:
        if len(line) != len(COLUMNS):
            return
        yield line


def test_the_documented_table_is_what_the_code_grants() -> None:
    topics: Any = {kind: [("prefixed", f"muse.{kind}.")] for kind in KINDS}
    own: Any = {("<tenant>", kind): f"muse.{kind}.<tenant>" for kind in KINDS}
    names = Names("muse", ["<lane>"], ["<tenant>"], topics, own)
    expected = [
        (role, one.resource, one.pattern, f"`{one.name}`", ", ".join(one.operations))
        for role in NEEDS
        for granted in grants(role, names).values()
        for one in granted
    ]
    assert list(documented()) == expected


def test_every_role_says_in_the_document_what_it_runs() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for role, needs in NEEDS.items():
        assert f"| {role} | {needs.does} |" in text


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["acl", *words]) == 0
    return capsys.readouterr().out


def names(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, str]:
    return {row["name"]: row["pattern"] for row in json.loads(printed(capsys, *words, "--json"))}


def test_topics_are_those_of_the_configuration_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Names of a tenant's own, and the lane's topic of events without a tenant, are among them."""
    found = names(capsys, str(EXAMPLE), "--role", "live", "--lane", "main")
    assert set(found.values()) == {"literal", "prefixed"}
    assert found["globex.risk.scores"] == "literal"
    assert found["muse.dlq.main"] == "literal"
    assert [name for name, pattern in found.items() if pattern == "prefixed"] == ["muse-muse.main.live-"]
    assert not [name for name in found if "small" in name], "another lane's"


def test_a_lane_a_tenant_and_a_principal_are_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(printed(capsys, str(EXAMPLE), "--role", "producer", "--tenant", "acme", "--json"))
    assert [(row["principal"], row["name"], row["operations"]) for row in rows] == [
        ("User:producer-acme", "muse.events.acme", ["WRITE"])
    ]
    text = printed(capsys, str(EXAMPLE), "--role", "watcher", "--role", "reporter", "--principal", "User:CN=it's")
    assert text.count("""--allow-principal 'User:CN=it'"'"'s'""") == len(text.splitlines())
    assert len(set(text.splitlines())) == len(text.splitlines()), "what two roles need is granted once"


def bank(folder: Path, **topics: str) -> str:
    path = Bank(folder / "bank", "muse", 2).document()
    yaml = YAML()
    document = yaml.load(path)
    document["topics"] = topics
    yaml.dump(document, path)
    return str(path)


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        ({}, {"muse.events.": "prefixed", "muse.scores.": "prefixed", "muse.dlq.": "prefixed"}),
        (
            {"events": "in.{lane}", "scores": "out", "dlq": "{tenant}.dlq", "unknown": "x"},
            {"in.": "prefixed", **dict.fromkeys(("out", "t0.dlq", "t1.dlq", "x"), "literal")},
        ),
        (
            {"events": "muse.{tenant}.events", "scores": "muse.{tenant}.scores"},
            {
                **dict.fromkeys(("muse.t0.events", "muse.t1.events", "muse.t0.scores", "muse.t1.scores"), "literal"),
                "muse.dlq.": "prefixed",
            },
        ),
    ],
    ids=["default", "no-prefix", "a-prefix-of-others-too"],
)
def test_a_prefix_takes_in_no_topic_of_another_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], topics: dict[str, str], expected: dict[str, str]
) -> None:
    rows = json.loads(printed(capsys, bank(tmp_path, **topics), "--role", "live", "--prefixed", "--json"))
    assert {row["name"]: row["pattern"] for row in rows if row["resource"] == "topic"} == expected


def test_a_user_of_strimzi_is_yaml_with_the_same_grants(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, str(EXAMPLE), "--format", "strimzi", "--cluster", "events", "--prefixed")
    users = list(YAML(typ="safe").load_all(text))
    rows = json.loads(printed(capsys, str(EXAMPLE), "--format", "json", "--prefixed"))
    found: list[tuple[str, str, str, list[str]]] = []
    for user in users:
        assert (user["kind"], user["metadata"]["labels"]) == ("KafkaUser", {"strimzi.io/cluster": "events"})
        assert user["spec"]["authorization"]["type"] == "simple"
        found += [
            (user["metadata"]["name"], acl["resource"]["type"], acl["resource"]["name"], acl["operations"])
            for acl in user["spec"]["authorization"]["acls"]
        ]
    kinds = {"transactional id": "transactionalId"}
    assert found == [
        (
            row["principal"].removeprefix("User:"),
            kinds.get(row["resource"], row["resource"]),
            row["name"],
            [name.title().replace("_", "") for name in row["operations"]],
        )
        for row in rows
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--role", "lives"), "there is no role 'lives'\n    there is: live, shadow"),
        (("--lane", "mian"), "there is no lane 'mian'\n    there is: main, small"),
        (("--tenant", "acne"), "there is no tenant 'acne'"),
        (("--format", "strimzi", "--principal", "CN=x"), "'CN=x' cannot be the name of a KafkaUser"),
    ],
)
def test_what_there_is_not_is_refused(words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["acl", str(EXAMPLE), *words]) == 2
    assert said in capsys.readouterr().err


def test_other_lanes_groups_are_looked_at_where_tenants_move(capsys: pytest.CaptureFixture[str]) -> None:
    words = (str(EXAMPLE), "--role", "live", "--lane", "main")
    assert set(names(capsys, *words, "--moves")) - set(names(capsys, *words)) == {"muse.small.live"}
