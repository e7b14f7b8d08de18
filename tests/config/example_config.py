"""The example of deploy/config as raw material for tests of `muse_stream.config`.

Replacements give the changed text, its problems and warnings. The files of the example are only read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from muse_stream.config import Loaded
from muse_stream.config.loading import examine_source
from muse_stream.config.source import parse
from muse_stream.errors import ConfigError, Problem

ROOT = Path(__file__).parents[2] / "deploy" / "config"
FILE = ROOT / "muse.yaml"
TEXT = FILE.read_text()


def changed(*changes: tuple[str, str], text: str = TEXT) -> str:
    """Return the example with each `(old, new)` applied to its first occurrence, which must exist."""
    for old, new in changes:
        assert old in text, f"the example no longer contains {old!r}"
        text = text.replace(old, new, 1)
    return text


def load_text(text: str, root: Path = ROOT) -> Loaded:
    examined = examine_source(parse(FILE, text.encode()), root)
    if examined.loaded is None:
        raise ConfigError(examined.problems)
    return examined.loaded


def problems_of(text: str, root: Path = ROOT) -> tuple[Problem, ...]:
    """Return the problems of a document; none when it loads."""
    try:
        load_text(text, root)
    except ConfigError as error:
        return error.problems
    return ()


def said(problems: Iterable[Problem]) -> str:
    return "\n".join(str(problem) for problem in problems)


def line_of(text: str, snippet: str) -> int:
    return text[: text.index(snippet)].count("\n") + 1


@dataclass(frozen=True)
class Rule:
    name: str
    old: str
    new: str
    path: str
    says: str
    hint: str
    at: str = ""
    """Text on the line that must be named; by default, the line of `new`."""
    also: tuple[str, ...] = ()
    """Paths of further problems that follow from the change, and are true."""


def expect_problem(rule: Rule) -> None:
    """Change the example and expect the one problem (and what is said to follow from it), with all its parts."""
    text = changed((rule.old, rule.new))
    problems = problems_of(text)
    assert sorted(problem.path for problem in problems) == sorted([rule.path, *rule.also]), said(problems)
    problem = next(problem for problem in problems if problem.path == rule.path)
    assert rule.says in problem.message
    assert rule.hint in problem.hint
    assert problem.line == line_of(text, rule.at or rule.new.strip("\n"))
