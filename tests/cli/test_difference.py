"""`diff` and the guard of `publish`: what changes, in the words of the domain, and what can hurt a tenant."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muse_stream.cli.main import main
from muse_stream.commands.difference import Change, changes, differences
from muse_stream.commands.publish import propose
from muse_stream.config import promote
from muse_stream.control import open_store
from tests.config.example_config import ROOT, TEXT, changed, load_text

Output = pytest.CaptureFixture[str]
UMBRELLA = "  umbrella: {event: card-event, lane: small, topics: *shared}\n"
LAST = ("  - live: cards    ", "  - live: {cards: 0.9, cards-next: 0.1}    ")
REGION = "  - when: {region: [br, mx]}\n    live: cautious\n    shadow: [unmapped]\n"


def between(old: str, new: str) -> list[str]:
    return [f"{'! ' if one.harm else ''}{one}" for one in differences(load_text(old), load_text(new))]


def after(*edits: tuple[str, str]) -> list[str]:
    return between(TEXT, changed(*edits))


EVERYBODY = "tenants acme, globex, initech, umbrella"


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ([("models:", "# more\nmodels:")], []),
        ([(UMBRELLA, "")], ["! tenant umbrella: gone"]),
        ([(UMBRELLA, UMBRELLA + "  hooli: {event: card-event}\n")], ["tenant hooli: new, in lane main"]),
        (
            [("lane: small\n    topics: &shared {events", "lane: big\n    topics: &shared {events")],
            [
                "tenant initech: lane small -> big",
                *(
                    f"tenant initech: {kind} topic muse.{kind}.small -> muse.{kind}.big"
                    for kind in ("events", "scores", "audit")
                ),
            ],
        ),
        (
            [("    refresh: propose", "    refresh: apply"), ("step: 0.3", "step: 0.25")],
            ["tenant initech: refresh of its maps propose -> apply", "limit refresh.step: 0.3 -> 0.25"],
        ),
        (
            [("scores: globex.risk.scores", "scores: g.scores")],
            ["tenant globex: scores topic globex.risk.scores -> g.scores"],
        ),
        ([LAST], [f"{EVERYBODY}: otherwise live cards -> cards 90 %, cards-next 10 %"]),
        (
            [("sample: 0.25", "sample: 0.5")],
            ["tenants acme, globex, channel ecom: shadow blended 25 %, cards-next -> blended 50 %, cards-next"],
        ),
        (
            [("live: cautious\n    shadow: [unmapped]", "live: unmapped")],
            [f"! {EVERYBODY}, region br or mx: live cautious -> unmapped; shadow unmapped -> none"],
        ),
        (
            [("live: cautious\n", "live: cards\n")],
            [f"! {EVERYBODY}, region br or mx: live cautious -> cards"],  # another reference
        ),
        ([("region: [br, mx]", "region: [mx, br]")], []),
        (  # the bits are the same: maps stay what they are
            [
                (
                    "    output: {name: probabilities, positive: 1}\n",
                    "    output: {name: probabilities, positive: 1}\n    backend: compiled\n",
                )
            ],
            ["model cards-2026q2: backend changed"],
        ),
        ([(REGION, REGION.replace("[br, mx]", "br") + REGION.replace("[br, mx]", "mx"))], []),
        ([(REGION, REGION + REGION.replace("[br, mx]", "mx").replace("cautious", "cards"))], []),
        ([("0.8: 0.05}", "0.8: 0.06}")], ["! reference standard: alert rate at 0.8 5 % -> 6 %"]),
        ([("0.8: 0.05}", "0.8: 0.05, 0.9: 0.01}")], ["! reference standard: alert rate at 0.9 nothing -> 1 %"]),
        ([("weight: 0.95, a: 1.0", "weight: 0.95, a: 1.1")], ["! reference smooth: "]),
        (
            [("  cards-next:\n    version: 4", "  cards-next:\n    version: 5")],
            ["predictor cards-next: version 4 -> 5, the same content"],
        ),
        (
            [("low: 0.001", "low: 0.002")],
            ["! predictor blended: other content under the same version; bounds 0.001 to 0.999 -> 0.002 to 0.999"],
        ),
        (
            [("  blended:\n    version: 1", "  blended:\n    version: 2"), ("low: 0.001", "low: 0.002")],
            ["predictor blended: version 1 -> 2; bounds 0.001 to 0.999 -> 0.002 to 0.999"],
        ),
        (
            [("    quantile_map: {reference: strict, default: cautious-pooled}\n", "")],
            ["! predictor cautious: quantile map gone"],
        ),
        (
            [
                (
                    "quantile_map: {reference: strict, default: cautious-pooled}",
                    "quantile_map: {reference: standard, default: cautious-pooled}",
                )
            ],
            ["! predictor cautious: reference strict -> standard"],
        ),
        (
            [("  strict: {quantiles", "  harsh: {quantiles"), ("reference: strict", "reference: harsh")],
            ["predictor cautious: reference strict -> harsh", "reference strict: gone", "reference harsh: new"],
        ),
        (
            [("default: cards-pooled, tenants: {acme: cards-acme}", "default: cards-pooled")],
            ["tenant acme: cards: map cards-acme -> cards-pooled, fitted on 20,000 events"],
        ),
        (
            [("tenants: {acme: cards-acme}", "tenants: {globex: cards-acme}")],
            [
                "tenant acme: cards: map cards-acme -> cards-pooled, fitted on 20,000 events",
                "tenant globex: cards: map cards-pooled -> cards-acme, fitted on 20,000 events",
                "! tenant globex: cards: map cards-acme was fitted on the scores of acme",
            ],
        ),
        ([("max_batch: 10000 ", "max_batch: 5000 ")], ["limit max_batch: 10,000 -> 5,000"]),
        ([("tolerance: 0.2 ", "tolerance: 0.3 ")], ["drift tolerance: 0.2 -> 0.3"]),
        ([("umbrella: {", "umbrella: {drift: {psi: 0.5}, ")], ["tenant umbrella: drift psi not set -> 0.5"]),
        ([("linger_ms: 5 ", "linger_ms: 7.5 ")], ["limit linger_ms: 5 -> 7.5"]),
        ([("atm: 2,", "atm: 3,")], None),
        ([("use_case: {value: fraud}", "use_case: {value: scam}")], ["event format card-event: intent changed"]),
    ],
)
def test_a_change_is_told_in_the_words_of_the_domain(edits: list[tuple[str, str]], says: list[str] | None) -> None:
    if says is None:  # a category table is a part of what maps were fitted for
        with pytest.raises(Exception, match="was fitted for"):
            after(*edits)
        return
    found = after(*edits)
    assert len(found) == len(says), found
    for line, expected in zip(found, says, strict=True):
        assert line.startswith(expected) if expected.endswith(" ") else line == expected


def test_a_promotion_is_one_line_for_each_kind_of_intent() -> None:
    assert between(TEXT, promote(TEXT, "cards-next", {"tenant": ["acme"], "channel": ["ecom"]}).text) == [
        "tenant acme, channel ecom: live cards -> cards-next; shadow blended 25 %, cards-next -> blended 25 %, cards"
    ]


def with_map(folder: Path, name: str, **facts: Any) -> tuple[str, str]:
    """Change a map's file and return the change of the document that pins it."""
    path = folder / "maps" / f"{name}.json"
    before = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    return before, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT, tmp_path / "config"))


def test_a_refitted_map_is_told_with_its_events_and_beside_the_promotion_it_belongs_to(folder: Path) -> None:
    refit = with_map(folder, "next-pooled", samples=184_220)
    text = changed(refit)
    old = load_text(TEXT)
    (line,) = differences(old, load_text(text, folder))
    assert str(line) == f"{EVERYBODY}: cards-next: map refitted on 184,220 events"
    promoted = promote(text, "cards-next", {"tenant": ["acme"]}).text
    found = [str(one) for one in differences(old, load_text(promoted, folder))]
    assert found == [
        "tenant acme, channel ecom: live cards -> cards-next; shadow blended 25 %, cards-next -> blended 25 %, cards; "
        "map refitted on 184,220 events",
        "tenant acme, region br or mx: live cautious -> cards-next; shadow unmapped -> cautious, unmapped; "
        "map refitted on 184,220 events",
        "tenant acme: otherwise live cards -> cards-next; shadow cards-next -> cards; map refitted on 184,220 events",
        "tenants globex, initech, umbrella: cards-next: map refitted on 184,220 events",
    ]


@pytest.mark.parametrize(
    ("fitted_on", "whose"),
    [(["acme"], ""), (["globex"], "globex"), (["acme", "globex"], ""), (["globex", "initech"], "globex, initech")],
)
def test_a_map_may_say_on_whose_scores_it_was_fitted(folder: Path, fitted_on: list[str], whose: str) -> None:
    text = changed(with_map(folder, "cards-acme", fitted_on=fitted_on, samples=9_001))
    found = differences(load_text(TEXT), load_text(text, folder))
    assert [str(one) for one in found if one.harm] == (
        [f"tenant acme: cards: map cards-acme was fitted on the scores of {whose}"] if whose else []
    )
    assert [one for one in differences(None, load_text(text, folder)) if one.harm] == [one for one in found if one.harm]


def test_a_copy_of_another_tenants_map_is_found_by_its_content(folder: Path) -> None:
    shutil.copy(folder / "maps/cards-acme.json", folder / "maps/cards-globex.json")
    digest = hashlib.sha256((folder / "maps/cards-globex.json").read_bytes()).hexdigest()
    text = changed(
        ("tenants: {acme: cards-acme}", "tenants: {acme: cards-acme, globex: cards-globex}"),
        (
            "  next-pooled: {file",
            f"  cards-globex: {{file: maps/cards-globex.json, sha256: {digest}}}\n  next-pooled: {{file",
        ),
    )
    found = [str(one) for one in differences(load_text(TEXT), load_text(text, folder)) if one.harm]
    assert found == ["tenant globex: cards: map cards-globex was fitted on the scores of acme"]


def test_changed_schemas_are_told(folder: Path) -> None:
    schema = folder / "schemas" / "card-event.avsc"
    schema.write_text(schema.read_text().replace('"amount"', '"amount" '))
    assert [str(one) for one in differences(load_text(TEXT), load_text(TEXT, folder))] == [
        "file card-event.avsc: changed"
    ]


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["cards", "cards-next", "cautious", "blended"]),
    st.dictionaries(
        st.sampled_from(["tenant", "channel", "region"]),
        st.lists(st.sampled_from(["acme", "globex"]), min_size=1, unique=True),
        max_size=2,
    ),
)
def test_there_and_back_are_mirrors(candidate: str, when: dict[str, list[str]]) -> None:
    """Going back says the same places, with what was on the left on the right."""
    old, new = load_text(TEXT), load_text(promote(TEXT, candidate, when).text)
    there, back = list(changes(old, new)), list(changes(new, old))
    assert list(changes(new, new)) == []

    def place(one: Change) -> tuple[Any, ...]:
        return one.names, sorted((name, *sorted(values)) for name, values in one.where.items())

    assert sorted(map(place, there)) == sorted(map(place, back))
    tenants = set(when.get("tenant", old.document.tenants))
    assert {name for one in there for name in one.names} <= tenants


@pytest.fixture
def published(folder: Path, tmp_path: Path, capsys: Output) -> Callable[..., tuple[int, str]]:
    """Publish a changed example with options; return exit code and all that was said."""
    store = str(tmp_path / "store")
    assert main(["publish", str(folder / "muse.yaml"), store]) == 0

    def publish(*options: str, edits: tuple[tuple[str, str], ...] = ()) -> tuple[int, str]:
        (folder / "muse.yaml").write_text(changed(*edits))
        capsys.readouterr()
        code = main(["publish", str(folder / "muse.yaml"), store, *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    publish.store = store  # type: ignore[attr-defined]
    return publish


def test_publish_shows_the_change_and_needs_a_yes(published: Any) -> None:
    code, said = published("--dry-run", edits=(LAST,))
    assert (code, "live cards -> cards 90 %, cards-next 10 %" in said) == (0, True)
    assert "nothing was published" in said
    code, said = published(edits=(LAST,))  # no terminal here
    assert (code, "say --yes" in said) == (2, True)
    assert open_store(published.store).current() == 1
    code, said = published("--yes", edits=(LAST,))
    assert (code, "generation 2 published and current" in said) == (0, True)


# what is such a change is a table of test_a_change_is_told_in_the_words_of_the_domain: two are published in `make test`
@pytest.mark.parametrize(
    "edit",
    [
        (UMBRELLA, ""),
        ("0.8: 0.05}", "0.8: 0.06}"),
        pytest.param(
            ("    quantile_map: {reference: strict, default: cautious-pooled}\n", ""),
            id="edit2",
            marks=pytest.mark.long,
        ),
        pytest.param(
            ("tenants: {acme: cards-acme}", "tenants: {globex: cards-acme}"), id="edit3", marks=pytest.mark.long
        ),
        pytest.param(("low: 0.001", "low: 0.002"), id="edit4", marks=pytest.mark.long),
        pytest.param(("live: cautious\n    shadow: [unmapped]", "live: unmapped"), id="edit5", marks=pytest.mark.long),
    ],
)
def test_what_can_hurt_a_tenant_takes_a_reason(published: Any, edit: tuple[str, str]) -> None:
    for options in (["--yes"], ["--yes", "--force", " "]):
        code, said = published(*options, edits=(edit,))
        assert (code, "--force REASON" in said) == (2, True)
        assert open_store(published.store).current() == 1
    code, said = published("--yes", "--force", "agreed with the bank", "-m", "from May on", edits=(edit,))
    assert (code, "generation 2 published and current" in said) == (0, True)
    entry = open_store(published.store).list()[-1]
    assert (entry.message, entry.evidence) == ("from May on", {"force": "agreed with the bank"})


def test_a_file_that_is_older_than_a_promotion_does_not_take_it_back(published: Any, folder: Path) -> None:
    assert published("--yes", edits=(LAST,))[0] == 0
    code, said = published("--yes", edits=(("max_batch: 10000 ", "max_batch: 5000 "),))
    assert code == 2
    assert (
        "takes back: tenants acme, globex, initech, umbrella: otherwise live cards 90 %, cards-next 10 % -> cards"
        in said
    )
    assert "generation 2 brought it" in said
    assert published("--yes", edits=(LAST, ("max_batch: 10000 ", "max_batch: 5000 ")))[0] == 0
    found = propose(folder / "muse.yaml", published.store)
    assert found.undone == ()
    code, said = published("--yes", edits=())
    assert [f"generation {number} brought it" in said for number in (2, 3)] == [True, True]
    assert published("--yes", "--replace", edits=())[0] == 0


def test_warnings_of_check_are_shown(published: Any) -> None:
    _, said = published("--dry-run", edits=((REGION, REGION + REGION),))
    assert "no intent reaches this rule" in said


def test_a_current_generation_that_cannot_be_read_takes_a_reason(published: Any) -> None:
    (model, *_) = sorted(Path(published.store).rglob("*.onnx"))
    model.chmod(0o644)
    model.write_bytes(b"broken")
    code, said = published("--yes", edits=(LAST,))
    assert (code, "generation 1 cannot be read" in said) == (2, True)
    assert published("--yes", "--force", "the disk was broken", edits=(LAST,))[0] == 0


def test_diff_of_generations_and_files(published: Any, folder: Path, capsys: Output) -> None:
    assert published("--yes", edits=(LAST,))[0] == 0
    line = "tenants acme, globex, initech, umbrella: otherwise live cards -> cards 90 %, cards-next 10 %"
    for old, new in (("1", "2"), ("1", "current"), (str(ROOT / "muse.yaml"), str(folder / "muse.yaml"))):
        capsys.readouterr()
        assert main(["diff", old, new, "--store", published.store]) == 0
        assert line in capsys.readouterr().out
    assert main(["diff", "1", "2", "--store", published.store, "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["area"], one["names"][0], one["harm"], one["says"]) == ("tenant", "acme", "", line)
    assert main(["diff", "2", "2", "--store", published.store]) == 0
    assert "no difference" in capsys.readouterr().out
    assert main(["diff", "1", "2"]) == 2
    assert "--store" in capsys.readouterr().err
    assert main(["diff", "1", "9", "--store", published.store]) == 1
    assert "there is no generation 9" in capsys.readouterr().err


def test_a_rollback_shows_what_it_takes_back_and_needs_a_yes(published: Any, capsys: Output) -> None:
    assert published("--yes", edits=(LAST,))[0] == 0
    store = open_store(published.store)

    def back(*options: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main(["rollback", published.store, *options])
        said = capsys.readouterr()
        return code, said.out + said.err

    for options, code, word in ((["--dry-run"], 0, "generation 1 would be current (is 2)"), ([], 2, "say --yes")):
        told = back(*options)
        assert (told[0], word in told[1]) == (code, True)
        assert "otherwise live cards 90 %, cards-next 10 % -> cards" in told[1]
        assert store.current() == 2
    (Path(published.store) / "generations" / "000002" / "content" / "muse.yaml").write_text("")
    code, said = back("--yes", "-m", "no")
    assert (code, "what it changes is not known" in said) == (0, True)
    head = store.head()
    assert head is not None
    assert (head.number, head.message) == (1, "no")
