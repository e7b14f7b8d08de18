"""Export: a generation as files, ready to `check` and to `publish` elsewhere.

A folder gets the document and every file it names, byte for byte, under the names they have in the generation; what was
fetched from a URL is among them. Publishing that folder gives the same content, and the same hash.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from muse_stream.control import Store, open_store
from muse_stream.errors import ConfigError, Problem, StoreError


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    number: int
    sha256: str
    document: Path
    """The configuration, to be checked and published."""
    files: int
    bytes: int


def export(generation: str, folder: str | Path, store: str | Path, *, overwrite: bool = False) -> Exported:
    """Write a generation (its number, or `current`) into a folder, which must be new or empty unless `overwrite`.

    The document comes last: what is interrupted cannot be taken for a configuration. With `overwrite` files of the same
    names are replaced and others stay, but for those that would be published along: they are refused. Raises
    ConfigError for a folder or a number that will not do, StoreError where the generation is not what was published, or
    cannot be written.
    """
    target = Path(folder)
    opened = open_store(store)
    try:
        number = _number(generation, opened)
        found, manifest = opened.open(number), opened.manifest(number)
    finally:
        opened.close()
    _refuse(target, manifest.files, overwrite=overwrite)
    source = found.path.parents[len(Path(manifest.document).parts) - 1]
    names = [*(name for name in manifest.files if name != manifest.document), manifest.document]
    try:
        size = sum(_copy(source / name, target / name) for name in names)
    except OSError as error:
        raise StoreError(
            f"{error.filename or target}: {error.strerror or error}; the export is not complete"
        ) from error
    return Exported(number, manifest.sha256, target / manifest.document, len(names), size)


def _number(text: str, store: Store) -> int:
    if text == "current":
        number = store.current()
        if number is None:
            raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
        return number
    if not (text.isascii() and text.isdigit()):
        hint = "give its number (`muse-stream generations` lists them), or `current`"
        raise ConfigError([Problem("GEN", f"'{text}' is no generation", hint)])
    return int(text)


def _refuse(target: Path, files: Mapping[str, str], *, overwrite: bool) -> None:
    if not target.is_dir():
        if target.exists() or target.is_symlink():
            raise ConfigError([Problem(str(target), "is there, and is no folder", "name a folder")])
        return
    if not overwrite:
        if any(target.iterdir()):
            hint = "name another one, or say --overwrite"
            raise ConfigError([Problem(str(target), "the folder is not empty", hint)])
        return
    folders = {Path(name).parent for name in files} - {Path()}
    strange = {path for folder in folders for path in (target / folder).rglob("*") if path.is_file()}
    strange -= {target / name for name in files}
    if strange:
        message = "would be published along, and is not of this generation"
        hint = "remove it, or name another folder"
        raise ConfigError([Problem(str(path), message, hint) for path in sorted(strange)])


def _copy(source: Path, target: Path) -> int:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.incoming")
    shutil.copyfile(source, aside)
    aside.replace(target)
    return target.stat().st_size
