"""`audit --follow`: every committed record in one file, once, whatever ends the process when."""

import json
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from muse_stream.cli.main import main
from muse_stream.commands import archive
from muse_stream.commands.archive import Position
from tests.commands.records import Bank
from tests.forked import Forked
from tests.patience import PATIENCE

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


STEPS = 38
"""What a process takes that writes all of these records: the last test meets one that has ended."""
SHORT = (1, 4, 9, 14)
"""Before the position has its name, a file, the next one, and the position that says that all is written."""


@pytest.mark.parametrize(
    "step", [pytest.param(n, marks=() if n in SHORT else pytest.mark.slow) for n in range(STEPS + 1)]
)
def test_a_process_that_is_killed_anywhere_leaves_no_record_twice_and_none_out(
    filled: Bank, tmp_path: Path, step: int, unique: Callable[[str], str]
) -> None:
    """`kill -9` at each of its steps on disk; what comes meanwhile is in other files, and DuckDB reads each once."""
    folder = tmp_path / "archive"
    words = ["audit", str(filled.file), "*", "--follow", "--once", "--to", str(folder)]
    log = (tmp_path / "log").open("wb")
    killed = Forked("tests.commands.archiving:dies", str(step), *words, stdout=log.fileno(), stderr=log.fileno())
    ended = killed.wait(60 * PATIENCE)
    log.close()
    assert ended == (-signal.SIGKILL if step < STEPS else 0), (tmp_path / "log").read_text()
    producer = filled.producer(unique("later"))
    producer.begin_transaction()
    producer.produce(filled.topics.scores, filled.score(30, 0.4), None, 0)
    producer.produce(filled.topics.scores, filled.score(31, 0.4), None, 1)
    producer.commit_transaction(60)
    before = {path for path in folder.rglob("*.parquet") if not path.name.startswith(".")}
    assert run(filled, folder) == 0
    assert set(places(folder).values()) == {1}
    assert places(folder).keys() == expected(filled, tmp_path)
    assert all(path.exists() for path in before)
    assert not list(folder.rglob(".*")), "what a killed process had begun"
    query = 'select count(*), count(distinct (topic, partition, "offset")) from read_parquet(?, union_by_name = true)'
    assert duckdb.execute(query, [f"{folder}/**/*.parquet"]).fetchall() == [(len(places(folder)),) * 2]


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
