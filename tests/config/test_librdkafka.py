"""The tables of librdkafka's properties are those of the library that is installed."""

import ctypes
import re
from pathlib import Path

import confluent_kafka
import pytest

from muse_stream.config import librdkafka

ROW = re.compile(r"^(?P<name>\S+) +\| +(?P<scope>[CP*]) +\|(?P<rest>.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """What the library says of itself (`rd_kafka_conf_properties_show`), a row a property."""
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    if not found:
        pytest.skip("this confluent-kafka was built against a librdkafka of its own")
    path = tmp_path_factory.mktemp("librdkafka") / "properties.md"
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(str(path).encode(), b"w"))
    ctypes.CDLL(str(found[0])).rd_kafka_conf_properties_show(file)
    libc.fclose(file)
    return [match.groupdict() for match in ROW.finditer(path.read_text(encoding="utf-8"))]


def test_names_and_kinds_of_client(shown: list[dict[str, str]]) -> None:
    code = {row["name"] for row in shown if "see dedicated API" in row["rest"]}
    kinds = {
        scope: {row["name"] for row in shown if row["scope"] == scope and row["name"] not in code} for scope in "*CP"
    }
    assert code == librdkafka.CODE
    assert kinds["*"] == librdkafka.CLIENT
    assert kinds["C"] == librdkafka.CONSUMER
    assert kinds["P"] == librdkafka.PRODUCER


def test_other_names(shown: list[dict[str, str]]) -> None:
    aliases = {row["name"]: found[1] for row in shown if (found := re.search(r"Alias for `([^`]+)`", row["rest"]))}
    assert aliases == librdkafka.ALIASES
