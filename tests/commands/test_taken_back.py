"""What a file takes back that descends from an older generation, however many were published since."""

from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.commands import pause, publish
from muse_stream.commands import promote as promoting
from muse_stream.commands.check import check_source
from muse_stream.commands.configuration import generation_or_none
from muse_stream.commands.publish import proposal, propose
from muse_stream.config import load_document, parse
from muse_stream.config import pause as paused_text
from muse_stream.config import promote as promoted
from muse_stream.control import Conflict, DirectoryStore, Note, Store
from muse_stream.errors import StoreError
from tests.config.example_config import ROOT, TEXT, changed, load_text

WHEN = {"tenant": ["acme"], "channel": ["pos"], "region": ["pt"]}
PROMOTED = promoted(TEXT, "cards-next", WHEN).text
LIMIT = ("max_batch: 10000 ", "max_batch: 9000 ")


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    """Empty."""
    return DirectoryStore(tmp_path / "store")


def published(store: Store, *texts: str) -> None:
    """Make each of these the next generation."""
    for text in texts:
        before = store.current()
        store.move_current(before, store.publish(load_text(text)))


def taken_back(store: Store, text: str) -> list[tuple[int, str]]:
    """What publishing a text would take back, and which generation brought it."""
    checked = check_source(parse(ROOT / "muse.yaml", text.encode()), ROOT)
    return [(one.generation, str(change)) for one in proposal(checked, store).undone for change in one.changes]


LIVE = "tenant acme, channel pos, region pt: live cards-next -> cards"


@pytest.mark.parametrize(
    "later",
    [
        [paused_text(PROMOTED, ["acme"], paused=True), PROMOTED],
        [PROMOTED.replace(*LIMIT), PROMOTED],
        [PROMOTED.replace("max_batch: 10000 ", f"max_batch: {9000 - number} ") for number in range(7)],
    ],
    ids=["a pause and its end", "a limit there and back", "seven others"],
)
def test_a_promotion_is_not_taken_back_however_many_came_after_it(store: DirectoryStore, later: list[str]) -> None:
    """The file agrees with, or changes itself, what the latest generations brought."""
    published(store, TEXT, PROMOTED, *later)
    found = dict(taken_back(store, TEXT))
    assert found[2].startswith(LIVE)


def test_a_stale_file_that_adds_a_shadow_takes_the_promotion_back_all_the_same(store: DirectoryStore) -> None:
    published(store, TEXT, PROMOTED)
    stale = TEXT.replace("shadow: [cards-next]", "shadow: [cards-next, blended]")
    assert stale != TEXT
    (found,) = taken_back(store, stale)
    assert found[0] == 2
    assert found[1].startswith(LIVE)


def test_a_stale_file_that_adds_a_rule_takes_the_promotion_back_all_the_same(store: DirectoryStore) -> None:
    published(store, TEXT, promoted(TEXT, "cards-next", {"tenant": ["acme"]}).text)
    rule = "  - when: {tenant: acme, channel: moto}\n    live: cards\n    shadow: [blended]\n"
    assert "routes:\n" in TEXT
    found = taken_back(store, TEXT.replace("routes:\n", f"routes:\n{rule}"))
    assert [number for number, change in found if "live cards-next -> cards" in change]


def test_what_is_changed_once_more_is_not_taken_back(store: DirectoryStore) -> None:
    """The words are the same, and what is there afterwards is not."""
    second = TEXT.replace("use_case: {value: fraud}", "use_case: {value: scam}")
    third = TEXT.replace("use_case: {value: fraud}", "use_case: {value: theft}")
    published(store, TEXT, second)
    assert taken_back(store, third) == []
    assert taken_back(store, TEXT) == [(2, "event format card-event: intent changed")]


def test_the_shadow_that_was_live_may_go_after_a_promotion(store: DirectoryStore) -> None:
    """Nobody shadowed once, before the candidate did: but then another predictor was live."""
    rule = "everything else\n    shadow: [cards-next]\n"
    nobody = changed((rule, "everything else\n"))
    live = changed(("  - live: cards   ", "  - live: cards-next   "), (rule, rule.replace("cards-next", "cards")))
    alone = changed(("  - live: cards   ", "  - live: cards-next   "), (rule, "everything else\n"))
    published(store, nobody, TEXT, live)
    assert taken_back(store, alone) == []
    assert [number for number, _ in taken_back(store, nobody)] == [3]


def test_a_former_generation_that_is_damaged_hides_no_other(store: DirectoryStore) -> None:
    published(store, TEXT, PROMOTED, PROMOTED.replace(*LIMIT))
    (store.path / "generations" / "000002" / "manifest.json").write_text("{}")
    assert any(change.startswith(LIVE) for _, change in taken_back(store, TEXT))


def test_a_store_that_is_away_is_no_generation_that_is_gone(store: DirectoryStore) -> None:
    """Who takes the one for the other publishes over what it could not see, or leaves evidence out for good."""
    published(store, TEXT, PROMOTED)
    found = generation_or_none(store, 1)
    assert found is not None
    (store.path / "generations" / "000001" / "manifest.json").write_text("{}")
    assert generation_or_none(store, 1) is None
    assert generation_or_none(store, 9) is None
    (store.path / "current").write_text("garbage")
    with pytest.raises(StoreError, match="current: not what this store writes"):
        generation_or_none(store, 1)


@pytest.mark.parametrize("command", ["promote", "pause"])
def test_what_is_made_from_a_generation_takes_back_nothing_that_comes_while_it_is_made(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Checking takes a second; whoever publishes in it has won."""
    published(store, TEXT)
    module = promoting if command == "promote" else pause
    real = module.check_source

    def slow(*arguments: object) -> object:
        number = store.publish(load_text(TEXT.replace(*LIMIT)), Note("smaller batches", "ana@bank"))
        store.move_current(1, number, Note("smaller batches", "ana@bank"))
        return real(*arguments)

    monkeypatch.setattr(module, "check_source", slow)
    prepare: Callable[[], object] = (
        (lambda: promoting.prepare("cards-next", WHEN, store=str(store.path)))
        if command == "promote"
        else (lambda: pause.prepare(["acme"], str(store.path), paused=True))
    )
    with pytest.raises(Conflict, match=r'current is generation 2, not 1: .* by ana@bank .*"smaller batches"'):
        prepare()
    assert store.current() == 2
    assert len(store.list()) == 2


def test_a_file_made_of_what_is_current_is_asked_for_nothing_it_takes_back(store: DirectoryStore) -> None:
    published(store, TEXT, PROMOTED, TEXT)
    found = propose(ROOT / "muse.yaml", store.path)
    assert found.undone == ()
    assert publish.publish(ROOT / "muse.yaml", store.path).changed is False


def test_the_document_of_a_generation_is_verified(store: DirectoryStore) -> None:
    published(store, TEXT)
    assert store.document(1) == load_document(store.open(1).path).source.data
    (store.path / "generations" / "000001" / "content" / "muse.yaml").write_text("other")
    with pytest.raises(StoreError, match=r"muse\.yaml: not the content that was published"):
        store.document(1)
