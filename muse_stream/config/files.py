"""The files a document names: models, golden rows, maps, schemas.

Reports every file that is missing or not allowed, and lists them all (`control` copies them into a generation). A file
lies inside the document's folder: no absolute path, no `..`, no URL, no symbolic link that leads out.
"""

import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from muse_stream.config.document import Document
from muse_stream.config.expected import nearest
from muse_stream.config.recalibration import FileRecalibration
from muse_stream.config.reference import FileMap
from muse_stream.config.remote import FETCHED, NotFetched, fetch, fetched_path, is_remote
from muse_stream.config.source import YamlPath
from muse_stream.config.structure import Draft
from muse_stream.errors import ConfigError, Problem

if TYPE_CHECKING:
    from muse_stream.config.loading import Loaded

IDS_FILE = "ids.json"
"""Confluent schema ids to files, in the schemas folder; optional."""


class NotAllowed(ValueError):
    """A path that a document may not name; `hint` says what would be right."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


def locate(root: Path, uri: str) -> Path:
    """Return the path of `uri` below `root`. Raises NotAllowed when it is missing or leads out of `root`."""
    inside = "give a path relative to the document, inside its folder"
    if "\0" in uri or "\\" in uri or "://" in uri:
        raise NotAllowed(f"'{uri}' is not a plain relative path", inside)
    pure = PurePosixPath(uri)
    if pure.is_absolute() or PureWindowsPath(uri).drive or ".." in pure.parts or pure.name == "":
        raise NotAllowed(f"'{uri}' leads out of the document's folder", inside)
    path = root / pure
    try:
        resolved = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise NotAllowed(f"no file '{uri}'", _like(path)) from error
    if not resolved.is_relative_to(root.resolve()):
        raise NotAllowed(f"'{uri}' is a link that leads out of the document's folder", "copy the file into the folder")
    return path


def model_file(root: Path, uri: str, sha256: str) -> Path:
    """Return the path of a model's file: below `root`, or where it was fetched to. Raises NotAllowed."""
    if not is_remote(uri):
        return locate(root, uri)
    path = fetched_path(root, sha256)
    if not path.is_file():
        raise NotAllowed(f"'{uri}' was not fetched", "load the document again")
    return path


def _pinned(document: Document) -> Iterator[tuple[YamlPath, str, str]]:
    """Yield where a file of a model stands in the document, its path or URL, and its sha256."""
    for name, model in document.models.items():
        yield ("models", name, "uri"), model.uri, model.sha256
        if model.data is not None:
            yield ("models", name, "data", "file"), model.data.file, model.data.sha256


def _like(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"there is no folder '{path.parent.name}'"
    return nearest(path.name, names)


def _named(document: Document) -> Iterator[tuple[YamlPath, str]]:
    yield from ((path, uri) for path, uri, _ in _pinned(document) if not is_remote(uri))
    for name, model in document.models.items():
        if model.golden is not None:
            yield ("models", name, "golden", "file"), model.golden.file
    for name, fitted in document.maps.items():
        if isinstance(fitted, FileMap):
            yield ("maps", name, "file"), fitted.file
    for name, curve in document.recalibrations.items():
        if isinstance(curve, FileRecalibration):
            yield ("recalibrations", name, "file"), curve.file


def file_problems(draft: Draft, root: Path) -> list[Problem]:
    """Return a problem for every file that is missing or not allowed."""
    problems: list[Problem] = []
    for path, uri in _named(draft.document):
        try:
            if not locate(root, uri).is_file():
                problems.append(draft.problem(path, f"'{uri}' is not a file", "give the path of a file"))
        except NotAllowed as refused:
            problems.append(draft.problem(path, str(refused), refused.hint))
    for path, uri, sha256 in _pinned(draft.document):
        if is_remote(uri) and not problems:  # a document that is refused anyway fetches nothing
            try:
                fetch(root, uri, sha256, draft.document.limits.model_bytes)
            except NotFetched as failed:
                problems.append(draft.problem(path, str(failed), failed.hint))
    return [*problems, *_schema_problems(draft, root)]


def _schema_problems(draft: Draft, root: Path) -> Iterator[Problem]:
    try:
        folder = locate(root, draft.document.schemas)
        if not folder.is_dir():
            raise NotAllowed(f"'{draft.document.schemas}' is not a folder", "give the folder with the .avsc files")
    except NotAllowed as refused:
        yield draft.problem(("schemas",), str(refused), refused.hint)
        return
    for name, event in draft.document.events.items():
        try:
            if "/" in event.schema_file or not locate(folder, event.schema_file).is_file():
                raise NotAllowed(
                    f"'{event.schema_file}' is not a file of the schemas folder", "name an .avsc file in it"
                )
        except NotAllowed as refused:
            yield draft.problem(("events", name, "schema"), str(refused), refused.hint)
    for file in [*folder.glob("*.avsc"), *folder.glob(IDS_FILE)]:
        try:
            locate(root, file.relative_to(root).as_posix())
        except NotAllowed as refused:
            yield draft.problem(("schemas",), str(refused), refused.hint)
    for message, hint in _id_faults(folder):
        yield draft.problem(("schemas",), message, hint)


def _id_faults(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the table of Confluent ids."""
    table = folder / IDS_FILE
    if not table.exists():
        return
    try:
        ids = json.loads(table.read_bytes(), object_pairs_hook=tuple)
    except (OSError, ValueError, RecursionError) as error:
        yield f"{IDS_FILE} is not JSON: {error}", '{"1": "event.avsc"}'
        return
    if not isinstance(ids, tuple):
        yield f"{IDS_FILE} is not a JSON object", '{"1": "event.avsc"}'
        return
    known = [file.name for file in folder.glob("*.avsc")]
    seen: set[int] = set()
    for number, name in ids:
        if not (number.isascii() and number.isdigit() and len(number) <= 10 and int(number) < 1 << 31):
            yield f"{IDS_FILE}: '{number[:40]}' is not a schema id", "ids are numbers from 0, as strings"
        elif int(number) in seen:
            yield f"{IDS_FILE}: id {int(number)} is there twice", "an id has one schema: remove the entry that is wrong"
        else:
            seen.add(int(number))
        if name not in known:
            yield f"{IDS_FILE}: id {number} names no file of the folder: {name!r}", nearest(str(name), known)


def referenced_files(loaded: "Loaded") -> list[Path]:
    """Return all files the document needs, relative to its root, sorted, without the document. Raises ConfigError."""
    names = {uri for _, uri in _named(loaded.document)}
    folder = loaded.root / loaded.document.schemas
    names |= {file.relative_to(loaded.root).as_posix() for file in [*folder.glob("*.avsc"), *folder.glob(IDS_FILE)]}
    problems = []
    for name in sorted(names):
        try:
            locate(loaded.root, name)
        except NotAllowed as refused:
            problems.append(loaded.source.problem((), str(refused), refused.hint))
    if problems:
        raise ConfigError(problems)
    return [Path(name) for name in sorted({str(PurePosixPath(name)) for name in names})]


def pinned_hashes(loaded: "Loaded") -> dict[str, str]:
    """Return the sha256 that the document pins for files of a generation, by their names there."""
    document = loaded.document
    pins = {f"{FETCHED}/{sha256}" if is_remote(uri) else uri: sha256 for _, uri, sha256 in _pinned(document)}
    for fitted in (*document.maps.values(), *document.recalibrations.values()):
        if isinstance(fitted, FileMap | FileRecalibration):
            pins[fitted.file] = fitted.sha256
    return {str(PurePosixPath(name)): sha256 for name, sha256 in pins.items()}


def content_files(loaded: "Loaded") -> dict[str, Path]:
    """Return what a generation holds beside the document: its name there, and where the file is now.

    What was fetched from a URL stands under its hash. Raises ConfigError.
    """
    files = {name.as_posix(): loaded.root / name for name in referenced_files(loaded)}
    for path, uri, sha256 in _pinned(loaded.document):
        if is_remote(uri):
            try:
                files[f"{FETCHED}/{sha256}"] = model_file(loaded.root, uri, sha256)
            except NotAllowed as refused:
                raise ConfigError([loaded.source.problem(path, str(refused), refused.hint)]) from None
    return dict(sorted(files.items()))
