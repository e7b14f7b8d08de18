"""`audit --follow`: every committed record in one file, once, whatever ends the process when."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from muse_stream.cli.main import main
from muse_stream.commands import archive
from muse_stream.commands.archive import Archive, Position
from muse_stream.files import RecordFile
from tests.commands.records import Bank

Output = pytest.CaptureFixture[str]
Place = tuple[str, int, int]


def run(bank: Bank, folder: Path, tenant: str = "*") -> int:
    return main(["audit", str(bank.file), tenant, "--follow", "--once", "--to", str(folder), "--json"])


def places(folder: Path) -> Counter[Place]:
    """Count the records of all files by topic, partition and offset; each stands where its file's name says."""
    found: Counter[Place] = Counter()
    for file in folder.rglob("*.parquet"):
        record, tenant, day = (part.partition("=")[2] for part in file.relative_to(folder).parts[:-1])
        first, end = map(int, file.stem.rsplit("-", 2)[1:])
        for row in pq.ParquetFile(file).read().to_pylist():
            assert (row["record"], row["tenant"], str(row["written_at"].date())) == (record, tenant, day)
            assert first <= row["offset"] < end
            found[row["topic"], row["partition"], row["offset"]] += 1
    return found


def expected(bank: Bank, folder: Path) -> set[Place]:
    """Return where the records of both tenants stand, by the export that is no archive."""
    found: set[Place] = set()
    for tenant in ("acme", "globex"):
        assert main(["audit", str(bank.file), tenant, "--to", str(folder / f"{tenant}.parquet")]) == 0
        rows = pq.ParquetFile(folder / f"{tenant}.parquet").read().to_pylist()
        found |= {(row["topic"], row["partition"], row["offset"]) for row in rows}
    return found


def test_each_record_stands_in_one_file_and_a_second_look_takes_what_is_new(
    filled: Bank, tmp_path: Path, unique: Callable[[str], str], capsys: Output
) -> None:
    folder = tmp_path / "archive"
    assert run(filled, folder) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["scores"], told["audit"], told["undecodable"]) == (6, 5, 4)
    assert run(filled, folder) == 0
    assert json.loads(capsys.readouterr().out)["files"] == 0
    before = places(folder)
    producer = filled.producer(unique("more"))
    producer.begin_transaction()
    producer.produce(filled.topics.scores, filled.score(20, 0.4), None, 0)
    producer.flush(60)
    assert run(filled, folder) == 0  # an open transaction is not waited for
    assert places(folder) == before
    producer.commit_transaction(60)
    assert run(filled, folder) == 0
    assert sum(places(folder).values()) == 12
    assert set(places(folder).values()) == {1}
    assert places(folder).keys() == expected(filled, tmp_path)
    assert run(filled, folder, "acme") == 1
    assert "is an archive of *, not of acme" in capsys.readouterr().err


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture(params=range(8))
def dying(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """End the process once, at one of its steps, the next one in each test; the steps are told."""
    steps: list[str] = []
    note, finish = Archive.note, RecordFile.finish

    def step(name: str) -> None:
        steps.append(name)
        if len(steps) == request.param + 1:
            raise Killed

    def noted(self: Archive, topic: str, partition: int, position: Position) -> None:
        step("before a position")
        note(self, topic, partition, position)
        step("after a position")

    def finished(self: RecordFile) -> list[str]:
        step("before a file")
        columns = finish(self)
        step("after a file")
        return columns

    monkeypatch.setattr(Archive, "note", noted)
    monkeypatch.setattr(RecordFile, "finish", finished)
    return steps


def test_a_process_that_ends_anywhere_leaves_no_record_twice_and_none_out(
    filled: Bank, tmp_path: Path, dying: list[str], unique: Callable[[str], str]
) -> None:
    folder = tmp_path / "archive"
    with pytest.raises(Killed):
        run(filled, folder)
    producer = filled.producer(unique("later"))  # what comes meanwhile is in other files
    producer.begin_transaction()
    producer.produce(filled.topics.scores, filled.score(30, 0.4), None, 0)
    producer.produce(filled.topics.scores, filled.score(31, 0.4), None, 1)
    producer.commit_transaction(60)
    before = {path: path.stat().st_size for path in folder.rglob("*.parquet") if not path.name.startswith(".")}
    assert run(filled, folder) == 0
    assert set(places(folder).values()) == {1}
    assert places(folder).keys() == expected(filled, tmp_path)
    assert all(path.exists() for path in before)


def test_two_processes_do_not_write_one_folder(filled: Bank, tmp_path: Path, capsys: Output) -> None:
    with archive.opened(tmp_path / "archive", "*"):
        assert run(filled, tmp_path / "archive") == 1
    assert "another process writes there" in capsys.readouterr().err


def test_a_topic_that_was_made_anew_is_not_mixed_with_the_old_one(filled: Bank, tmp_path: Path, capsys: Output) -> None:
    with archive.opened(tmp_path / "archive", "*") as held:
        held.note(filled.topics.scores, 0, Position(1_000))
    assert run(filled, tmp_path / "archive") == 1
    assert "was made anew? Use another folder" in capsys.readouterr().err


def test_a_tenant_that_is_no_name_makes_no_folder(
    filled: Bank, tmp_path: Path, unique: Callable[[str], str], capsys: Output
) -> None:
    producer = filled.producer(unique("odd"))
    producer.begin_transaction()
    odd: Any = "../../elsewhere"
    producer.produce(filled.topics.scores, filled.score(40, 0.4, odd), None, 0)
    producer.commit_transaction(60)
    assert run(filled, tmp_path / "a" / "b") == 0
    assert json.loads(capsys.readouterr().out)["undecodable"] == 5
    assert not list(tmp_path.rglob("*elsewhere*"))


@pytest.mark.parametrize("words", [["--follow", "--since", "1d"], ["--follow", "--kind", "scores"], ["--once"]])
def test_what_makes_no_archive_is_refused(tmp_path: Path, words: list[str], capsys: Output) -> None:
    assert main(["audit", "muse.yaml", "acme", "--to", str(tmp_path / "x"), *words]) == 2
    assert words[0] in capsys.readouterr().err or "--follow" in words
