"""From a file to a document that can be trusted: `Loaded`, or a ConfigError with all problems.

The same function loads what an operator wrote and what a generation keeps. The files a document names stand in its
folder; nothing outside of it is read.
"""

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from muse_stream.config.check_graphs import graph_problems
from muse_stream.config.check_names import name_problems
from muse_stream.config.check_topics import topic_problems, topic_warnings
from muse_stream.config.check_usage import usage_problems, usage_warnings
from muse_stream.config.document import Document
from muse_stream.config.files import file_problems
from muse_stream.config.maps import FittedData, Misfit, map_problems
from muse_stream.config.secret_keys import secret_problems
from muse_stream.config.source import Source, parse
from muse_stream.config.structure import Draft, read_structure
from muse_stream.config.totality import prove_total
from muse_stream.errors import ConfigError, Problem


class Loaded(Struct, frozen=True):
    """A checked document, the folder its files stand in, and where everything was written."""

    document: Document
    root: Path
    """The folder of the YAML file; all files of the document are relative to it."""
    source: Source
    fitted: FittedData
    """Maps and recalibrations by name: those that were checked, whatever becomes of their files."""
    warnings: tuple[Problem, ...] = ()
    """What is allowed but probably not meant."""


class Examined(Struct, frozen=True):
    """What a file holds, whatever is wrong with it."""

    draft: Draft
    """The document, or the part of it that is sound."""
    problems: tuple[Problem, ...]
    """Everything that is wrong, in the order of the file; without the misfits that may only follow from it."""
    misfits: tuple[Misfit, ...]
    """Uses of maps that were fitted for something else, all of them."""
    loaded: Loaded | None
    """The document, when nothing is wrong."""


def load_document(path: Path) -> Loaded:
    """Return the document in the YAML file `path`. Raises ConfigError with all problems, in the order of the file."""
    examined = examine_document(path)
    if examined.loaded is None:
        raise ConfigError(examined.problems)
    return examined.loaded


def examine_document(path: Path) -> Examined:
    """Read a file once and check it. Raises ConfigError when it cannot be read, or is no YAML document at all."""
    return examine_source(read_source(path), Path(path).parent)


def load_for_fitting(source: Source, root: Path, predictor: str) -> Loaded:
    """Return a document in which maps of one predictor may be of another content: they are to be fitted anew.

    Raises ConfigError with everything else that is wrong.
    """
    examined = examine_source(source, root)
    if examined.loaded is not None:
        return examined.loaded
    stale = [misfit.problem for misfit in examined.misfits if misfit.predictor == predictor]
    others = [problem for problem in examined.problems if problem not in stale]
    if others:
        raise ConfigError(others)
    fitted, _, _ = map_problems(examined.draft, root)
    return Loaded(examined.draft.document, root, source, fitted)


def read_source(path: Path) -> Source:
    """Read a file once. Raises ConfigError when it cannot be read, or is no YAML document at all."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            [
                Problem(
                    "(document)", f"cannot be read: {error.strerror}", "give the path of a YAML file", None, str(path)
                )
            ]
        ) from error
    return parse(Path(path), data)


def examine_source(source: Source, root: Path) -> Examined:
    """Check a parsed file; the files that it names stand in `root`."""
    draft, broken = read_structure(source)
    first = [*source.problems, *secret_problems(source)]
    # What was refused for what it is needs no second finding about its form, which might repeat a secret.
    said = {problem.path for problem in first}
    fitted, unusable, misfits = map_problems(draft, root)
    later = [*broken, *_errors_in(draft), *file_problems(draft, root), *unusable]
    problems = [*first, *(problem for problem in later if problem.path not in said)]
    problems += [misfit.problem for misfit in misfits if not misfit.follows(problems)]
    if problems:
        return Examined(draft, tuple(_in_order(problems)), tuple(misfits), None)
    loaded = Loaded(draft.document, root, source, fitted, tuple(_in_order(_warnings_in(draft))))
    return Examined(draft, (), (), loaded)


def _errors_in(draft: Draft) -> list[Problem]:
    """Return where the parts of a document do not fit each other.

    Every rule is asked, whatever the others found; a rule that cannot be decided because something it needs is broken
    says nothing (that was reported where it broke).
    """
    return [*name_problems(draft), *graph_problems(draft), *topic_problems(draft), *usage_problems(draft)]


def _warnings_in(draft: Draft) -> list[Problem]:
    """Return what is allowed but probably not meant; asked only of a document without errors."""
    shadowed = prove_total(draft.document, {}).warnings(draft.source)
    return [*topic_warnings(draft), *usage_warnings(draft), *shadowed]


def _in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Sort by line; of problems with the same path and text, keep one."""
    kept = {(problem.path, problem.message): problem for problem in problems}
    return sorted(kept.values(), key=lambda problem: (problem.line or 0, problem.path, problem.message))
