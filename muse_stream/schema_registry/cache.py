"""Schemas that a registry has told once, on this machine's disk: a worker that starts again needs no registry.

A registry never gives an id to another schema, so a file is good for ever. Each is written aside and renamed, and has
the hash of what it holds; one that is damaged is as good as none.
"""

import json
import os
import secrets
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

FOLDER = "schemas"


class SchemaCache:
    """The files of one registry."""

    def __init__(self, url: str, root: Path) -> None:
        self.path = root / FOLDER / sha256(url.encode()).hexdigest()[:16]

    def read(self, schema_id: int) -> str | None:
        """Return the text of a schema; None where there is none, or it is damaged."""
        try:
            found = json.loads((self.path / f"{schema_id}.json").read_bytes())
            text = str(found["schema"])
            whole = found["id"] == schema_id and found["sha256"] == _hash(schema_id, text)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return text if whole else None

    def write(self, schema_id: int, text: str) -> None:
        """Keep a text. Without space or permission it is not kept: it can be asked for again."""
        content = json.dumps({"id": schema_id, "sha256": _hash(schema_id, text), "schema": text})
        self._put(f"{schema_id}.json", content)

    def _put(self, name: str, content: str) -> None:
        fresh = self.path / f".{name}.{secrets.token_hex(4)}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with fresh.open("x", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path / name)
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def read_id(self, subject: str, text: str) -> int | None:
        """Return the id that a schema has under a subject; None where that is not known here."""
        try:
            return int((self.path / f"{_hash(subject, text)}.id").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None

    def write_id(self, subject: str, text: str, schema_id: int) -> None:
        """Keep an id, as `write` does."""
        self._put(f"{_hash(subject, text)}.id", str(schema_id))


def _hash(of: int | str, text: str) -> str:
    return sha256(f"{of}\n{text}".encode()).hexdigest()
