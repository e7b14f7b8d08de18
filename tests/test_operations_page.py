"""docs/operations.md quotes what the product says: every word of it stands in the sources (or in librdkafka's table).

That it is said in the situation shows `make operations`, which compares the page with logs and printed lines.
"""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from tests.operations import page

SOURCES = Path(__file__).resolve().parents[1] / "muse_stream"
MASK = re.compile(r"\b(?:TIME|ADDRESS|ID|TOPIC|GROUP|NAME|SLOT|N)\b|\b(?:acme|globex|main|large|store|CONFIG)\b|\.\.\.")
"""What a message says of the moment; a person's configuration."""


@cache
def corpus() -> str:
    """All that the product can say, constants with `TOPIC`, `N` and such where something is filled in."""
    texts: list[str] = []
    for path in SOURCES.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [str(one.value) if isinstance(one, ast.Constant) else "\0" for one in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
            elif isinstance(node, ast.keyword) and node.arg:  # a fact of a log line
                texts.append(node.arg)
            elif isinstance(node, ast.Attribute):
                texts.append(node.attr)
    texts += [f"{KafkaError(code).name()}\n{KafkaError(code).str()}" for code in (*range(-200, -100), *range(130))]
    return "\n".join(" ".join(page.without_the_moment(text).split(" ")) for text in texts)


def pieces(text: str) -> list[str]:
    """Return what of a message is the product's own words, in runs between what is filled in."""
    runs = re.split(r"[:;]\s|[()\[\]{}\"`]|, ", MASK.sub("\0", page.without_the_moment(text)).replace("\0", "("))
    return [run.strip(" .,:;=-/@>'") for run in runs if re.search(r"[a-z]{3}", run, re.IGNORECASE)]


def said(piece: str) -> bool:
    """Whether the product can say this: as it stands, or put together of runs of at least two words."""
    words, least = piece.split(" "), 2
    if piece in corpus():
        return True
    sound = {0}
    for end in range(1, len(words) + 1):
        starts = (start for start in sound if end - start >= least or start == 0)
        if any(" ".join(words[start:end]) in corpus() for start in starts):
            sound.add(end)
    return len(words) in sound


@pytest.mark.parametrize("title", page.sections())
def test_what_the_page_quotes_is_what_the_product_says(title: str) -> None:
    texts = [*page.quoted(title), *page.told(title)]
    texts += [f"{key}: {value}" for line in page.log_lines(title) for key, value in line.items()]
    unknown = {piece: text for text in texts for piece in pieces(text) if not said(piece)}
    assert not unknown, "\n".join(f"'{piece}' of '{text}'" for piece, text in unknown.items())


def test_the_check_catches() -> None:
    assert said("records are not acknowledged in time")
    assert not said("records are not confirmed in time")
    assert not page.missing("Lane move", [], "")
    assert len(page.missing("Upstream transaction left open", [], "")) == 1
