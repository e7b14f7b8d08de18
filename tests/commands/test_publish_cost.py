"""What publishing and compiling a large configuration costs, counted in readings and not in seconds.

With 300 predictors each reading of a document, and each parsing of a map, is what takes the time (`python -m perf
publish` has the seconds).
"""

from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from muse_stream.commands.publish import propose
from muse_stream.config import KafkaSettings, loading, maps, plain_yaml
from muse_stream.control import Follower, Head, open_store
from muse_stream.runtime.run import RunOptions
from muse_stream.runtime.worker_process import compiler
from muse_stream.worker import InHand
from perf import workload

TENANTS, OF_EACH, MODELS = 3, 4, 3


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small one of the kind."""
    folder = tmp_path_factory.mktemp("fleet")
    sizes: dict[str, Any] = {"tenants": TENANTS, "of_each": OF_EACH, "models": MODELS, "trees": 3}
    return workload.configure_fleet(folder, workload.made_up(4_000), **sizes)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often documents are parsed, in all and by the slow parser, and maps."""
    counts: Counter[str] = Counter()

    def count(module: Any, name: str, what: Callable[[Any], str]) -> None:
        real = getattr(module, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            answer = real(*arguments, **named)
            counts[what(answer)] += 1
            return answer

        monkeypatch.setattr(module, name, counting)

    count(loading, "parse", lambda _: "documents")
    count(plain_yaml, "read_plain", lambda answer: "slow" if answer is None else "fast")
    monkeypatch.setattr("muse_stream.config.source.read_plain", plain_yaml.read_plain)
    count(maps, "_parsed", lambda _: "maps")
    yield counts


def publish(path: Path, store: Path) -> None:
    proposal = propose(path, store)
    proposal.publish()
    proposal.store.close()


def test_each_document_is_read_once_and_each_map_parsed_once(made: Path, tmp_path: Path, counted: Counter[str]) -> None:
    store, text = tmp_path / "store", made.read_text()
    publish(made, store)
    assert counted == {"documents": 1, "fast": 1, "maps": TENANTS * OF_EACH}
    made.write_text(text + "# the next one\n")
    counted.clear()
    publish(made, store)
    made.write_text(text)
    assert counted["documents"] == counted["fast"] == 2, "what is published, and what is current"
    assert counted["maps"] == TENANTS * OF_EACH, "the two share them"
    assert not counted["slow"]


def test_a_worker_parses_a_generation_once_and_no_map_that_it_has(
    made: Path, tmp_path: Path, counted: Counter[str]
) -> None:
    store, text = tmp_path / "store", made.read_text()
    publish(made, store)
    made.write_text(text + "# the next one\n")
    publish(made, store)
    made.write_text(text)
    source = Follower(open_store(store))
    options = RunOptions(store, "shadow", settings=KafkaSettings(bootstrap="none:1"))
    compile = compiler(options, source, InHand(get_context("fork")), frozenset())
    head, _ = source.first()
    counted.clear()
    first = compile(source.open(head.number, head.sha256))
    assert counted["documents"] == 2, "its own, and the one before it, for the lanes that it had"
    assert counted["maps"] == TENANTS * OF_EACH
    counted.clear()
    second = compile(source.open(Head(1).number))
    assert counted["maps"] == 0
    assert first.cache is second.cache
