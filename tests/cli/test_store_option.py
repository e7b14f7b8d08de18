"""A store is named by its argument, by `--store`, or by MUSE_STORE, in every command; a Redis as well."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from muse_stream.cli.main import main
from muse_stream.testing import Redis

CONFIG = Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml"
EVENTS = CONFIG.with_name("events.jsonl")


def out(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    got = main(list(words))
    captured = capsys.readouterr()
    assert got == code, captured.err
    return captured.out if code == 0 else captured.err


@pytest.fixture(params=["directory", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path, unique: Callable[[str], str]) -> str:
    if request.param == "directory":
        return str(tmp_path / "store")
    redis: Redis = request.getfixturevalue("redis")
    return f"{redis.url}?prefix={unique('muse')}"


def test_every_way_to_name_a_store(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_AUTHOR", "ana@bank")
    assert "generation 1 published and current" in out(capsys, "publish", str(CONFIG), "--store", store, "-m", "why")
    again = tmp_path / "config"
    again.mkdir()
    for path in CONFIG.parent.rglob("*"):
        if path.is_file():
            target = again / path.relative_to(CONFIG.parent)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (again / "muse.yaml").write_bytes(CONFIG.read_bytes() + b"# second\n")
    assert "generation 2" in out(capsys, "publish", str(again / "muse.yaml"), store)
    rows = json.loads(out(capsys, "generations", f"--store={store}", "--json"))
    assert [(row["number"], row["current"], row["author"], row["message"]) for row in rows] == [
        (1, False, "ana@bank", "why"),
        (2, True, "ana@bank", ""),
    ]
    monkeypatch.setenv("MUSE_STORE", store)
    told = json.loads(out(capsys, "rollback", "--json", "--dry-run"))
    assert told == {"before": 2, "would_be_current": 1, "changes": []}
    assert "no terminal to ask on" in out(capsys, "rollback", "--json", code=2)
    told = json.loads(out(capsys, "rollback", "--json", "--yes", "--message", "too many"))
    assert told == {"before": 2, "current": 1, "changes": []}
    scores = ("--output", str(tmp_path / "scores.parquet"), "--header", "region=pt", "--json")
    assert out(capsys, "replay", "acme", str(EVENTS), *scores)
    assert out(capsys, "replay", store, "acme", str(EVENTS), *scores), "an argument goes before the variable"
    assert out(capsys, "event", str(EVENTS), "--header", "region=pt", "--limit", "1")


def test_what_is_missing_or_given_twice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MUSE_STORE", raising=False)
    assert "Missing argument" in out(capsys, "generations", code=2)
    assert "requires an argument" in out(capsys, "topics", "--store", code=2)
    assert "unexpected extra argument" in out(capsys, "topics", str(CONFIG), "--store", str(tmp_path), code=2)
    assert "give one of --store and --config" in out(capsys, "run", "--role", "live", code=2)


def test_a_redis_that_is_away_is_one_line_without_the_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUSE_STORE", "redis://ana:hush@127.0.0.1:1")
    for words in (["generations"], ["rollback"], ["publish", str(CONFIG)], ["run", "--role", "live"]):
        told = out(capsys, *words, code=1)
        assert "redis://127.0.0.1:1/0: " in told
        assert "hush" not in told
        assert "Traceback" not in told


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://", "a host is HOST or HOST:PORT"),
        ("redis://h:70000", "a host is HOST or HOST:PORT"),
        ("redis://h/x", "the database is a number"),
        ("redis://h/0/1", "the database is a number"),
        ("redis://h?db=1", "'db' is no option of a store"),
        ("redis://h?prefix=", "a prefix is letters"),
        ("redis://h?prefix=a*", "a prefix is letters"),
        ("redis://a,b", "only Sentinel has several"),
        ("redis+sentinel://a,b", "the name of the service is missing"),
        ("redis://user:hush@h/x", "the database is a number"),
    ],
)
def test_an_address_that_is_none_is_refused_with_what_is_right(
    url: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told = " ".join(out(capsys, "generations", url, code=1).split())
    assert said in told
    assert "right is redis://" in told
    assert "hush" not in told
