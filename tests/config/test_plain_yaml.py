"""Two parsers, one meaning: what libyaml reads is what ruamel.yaml would have read, or is left to it."""

import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muse_stream.config import source
from muse_stream.config.plain_yaml import read_plain
from muse_stream.errors import ConfigError

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "deploy/config/muse.yaml", ROOT / "muse_stream/demo/assets/muse.yaml"]
SNIPPET = """\
version: 1
models:  # by name
  trees-g1: {uri: models/trees.onnx, sha256: 0a23e456, golden: 'it''s'}
  "far": {uri: s3://models/a.onnx, inputs: [a, b.c, -1.5]}
rates: {0.2: 0.70, 1e-3: 0.5, 1.5e+2: 1, 5411: ~, yes: no, true: null}
routes:
- when:
    channel: [web, "pos"]
  live: card-v1
- - 1F
  - x

one: &list [x, {y: 1}]
two: {again: *list}
topics: &topics
    scores: muse.scores.{lane}
    dlq:
three: *topics
"""
SEEDS = [SNIPPET, *(SNIPPET.replace("\n", "\r\n"), "a: 1\nb:\n- x: y\n", "{a: [1, {b: c}]}\n", "a: b: c\n", "- 1\n")]
PIECES = [
    *"\n :-?,[]{}#&*!|>'\"%@`\\\t~<=.0e_x",
    *("\r", "\x85", " \u2028", "\ufeff", ": ", "\n  ", "- ", " #", "é", "<<: ", "&list ", "*list", "*topics", "!!str "),
    *("---\n", "...\n", "null", "0o17", "1_0", "+1", "NaN", ".inf", "Yes", "True", "1:30", "2001-01-01", "0x1F"),
]


def both(text: str) -> tuple[Any, Any]:
    """What each parser makes of a text; None where it leaves it to the other, or refuses it."""
    fast = read_plain(text, source.MAX_NODES)
    return fast, slow(text)


def slow(text: str) -> Any:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an anchor that is used twice
        patch.setattr(source, "read_plain", lambda *_: None)
        try:
            parsed = source.parse(Path("muse.yaml"), text.encode())
        except ConfigError:
            return None
    return None if parsed.problems else (parsed.tree, parsed.lines)


@st.composite
def texts(draw: st.DrawFn) -> str:
    """A document that somebody has damaged in a few places."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 3)))
        text = text[:start] + draw(st.sampled_from(PIECES)) + text[end:]
    return text


@given(texts())
def test_no_text_means_something_else(text: str) -> None:
    fast, other = both(text)
    assert fast is None or repr(fast[0]) == repr(other and other[0])
    assert fast is None or fast[1] == other[1]


@given(st.text(st.sampled_from("0123456789+-._eExXoOaf:~nNuULlTrRyYsSiI<="), max_size=8))
def test_no_scalar_means_something_else(text: str) -> None:
    fast, other = both(f"a: {text}\n{text}: b\n")
    assert fast is None or repr(fast) == repr(other)


@pytest.mark.parametrize("text", SEEDS[:-2])
def test_what_is_plain_is_read_fast(text: str) -> None:
    assert read_plain(text, source.MAX_NODES) is not None


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_our_own_documents_are_read_fast(path: Path) -> None:
    fast, other = both(path.read_text())
    assert fast is not None
    assert (repr(fast[0]), fast[1]) == (repr(other[0]), other[1])


def test_what_must_be_refused_is_left_to_the_other_parser() -> None:
    for text in (
        "a: 1\na: 2\n",
        "a: &x [*x]\n",
        "a: &x {b: 1}\nc:\n  <<: *x\n",
        "a: !!python/object:x {}\n",
        "a: 2024-01-02\n",
        "a: [\n",
        "",
    ):
        assert read_plain(text, 100) is None
    assert read_plain("a: [1, 2, 3]\n", 4) is None
