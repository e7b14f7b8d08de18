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
        fresh = self.path / f".{schema_id}.{secrets.token_hex(4)}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with fresh.open("x", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path / f"{schema_id}.json")
        except OSError:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)

    def ids(self) -> list[int]:
        """Return the ids of all files, ascending."""
        try:
            return sorted(int(path.stem) for path in self.path.glob("*.json") if path.stem.isdigit())
        except OSError:
            return []


def _hash(schema_id: int, text: str) -> str:
    return sha256(f"{schema_id}\n{text}".encode()).hexdigest()
