"""An HTML file that appears whole or not at all."""

import os
from contextlib import suppress
from pathlib import Path

from muse_stream.commands.report_records import ReportError
from muse_stream.errors import MuseError


def check(path: Path) -> None:
    """Raise ReportError for a name that no report can have: before the work, not after it."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise ReportError(f"{path}: the name of a report ends in .html")
    if path.is_dir():
        raise ReportError(f"{path}: is a folder; name a file")


def write(path: Path, text: bytes) -> None:
    """Write it; raises MuseError where that cannot be done."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(text)
        aside.replace(path)
    except OSError as error:
        raise MuseError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
