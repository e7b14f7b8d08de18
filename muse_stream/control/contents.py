"""Which files a generation is made of.

In: a loaded document. Out: relative name -> file, for the document itself and everything it names: models, golden
rows, fitted maps, and the whole schema folder (a writer schema that nobody names may still stand in an event).
Law: a generation is self-contained. A file outside the document's folder cannot be copied under the same relative
name, so it is refused, with all others that are.
"""

from collections.abc import Iterator
from pathlib import Path

from muse_stream.errors import ConfigError, Problem
from muse_stream.spec import Loaded


def files_of(loaded: Loaded) -> dict[str, Path]:
    """Return every file of the document by its name relative to the document's folder.

    Raises `ConfigError` naming each file that does not exist or lies outside that folder.
    """
    root = loaded.root.resolve()
    files = {loaded.source.path.name: loaded.source.path}
    problems: list[Problem] = []
    for where, name in _named(loaded):
        file = (root / name).resolve()
        if not file.is_relative_to(root):
            problems.append(
                loaded.source.problem(where, f"'{name}' is outside the document's folder", "move it inside")
            )
        elif file.is_dir():
            files |= {str(path.relative_to(root)): path for path in sorted(file.rglob("*")) if path.is_file()}
        elif file.is_file():
            files[str(file.relative_to(root))] = file
        else:
            problems.append(
                loaded.source.problem(where, f"there is no file '{name}'", "paths are relative to this file")
            )
    if problems:
        raise ConfigError(problems)
    return files


def _named(loaded: Loaded) -> Iterator[tuple[str, str]]:
    document = loaded.document
    yield "schemas", document.schemas
    for name, model in document.models.items():
        yield f"models.{name}.uri", model.uri
        if model.golden is not None:
            yield f"models.{name}.golden.file", model.golden.file
    for name, fitted in document.maps.items():
        if fitted.file is not None:
            yield f"maps.{name}.file", fitted.file
