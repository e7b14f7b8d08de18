"""The two records of a store, whatever keeps them: a generation's manifest, and what is current.

    manifest   {format, number, sha256, created, parent, document, files: {name: sha256},
                author, message, evidence, version, lanes, signature}
    current    {format, number, sha256, former, sequence, moved, author, message, version, signature}

Format 1 (muse-stream 0.1.0) has neither `format` nor what stands in the second line, and is read as well. A newer
format is refused with the version that wrote it. Whatever is read is checked before it is used: names and hashes
become paths and keys.

`sequence` grows with every move of `current`, also where the store has lost its memory: it is the time of the move in
milliseconds, or one more than the last where that is greater. So a store that was restored from a backup, or emptied,
is told from one that was moved on.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

from muse_stream.control.signatures import Signature
from muse_stream.errors import StoreError

FORMAT = 2
"""What this version writes, and the newest that it reads."""
FORMER = 100
"""How many moves of `current` are remembered."""
BEYOND = 1 << 43
"""No sequence number: a time in the year 2248. Who believed one would refuse every decision after it."""
LONGEST_TEXT = 1000
"""Most characters of an author or a message."""
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a generation consists of, and where it comes from."""

    number: int
    sha256: str
    """Hash over the names and hashes of all its files."""
    created: datetime
    parent: int | None
    """What was current when it was published."""
    document: str
    files: Mapping[str, str]
    """Name -> sha256."""
    author: str = ""
    message: str = ""
    evidence: Mapping[str, Any] | None = None
    """What a promotion was decided on."""
    version: str = ""
    """The muse-stream that wrote it; empty in format 1."""
    format: int = FORMAT
    lanes: Mapping[str, Sequence[str]] | None = None
    """Lane -> its tenants, for those who do not want to read the document; None where it was not written down."""
    signature: Signature | None = None
    """Not checked: `TrustedKeys.check` does."""
    record: bytes = field(default=b"", compare=False, repr=False)
    """What it was read from, if it was: a signature is of all of it."""

    def to_json(self) -> bytes:
        """Return the record as it is kept."""
        return (
            self.record
            or json.dumps(
                {
                    "format": self.format,
                    "number": self.number,
                    "sha256": self.sha256,
                    "created": self.created.isoformat(),
                    "parent": self.parent,
                    "document": self.document,
                    "files": dict(self.files),
                    "author": self.author,
                    "message": self.message,
                    "evidence": self.evidence,
                    "version": self.version,
                    "lanes": self.lanes and {lane: list(tenants) for lane, tenants in self.lanes.items()},
                },
                indent=1,
            ).encode()
        )

    @classmethod
    def read(cls, data: bytes, number: int, where: str) -> "Manifest":
        """Return the manifest of a generation; raises StoreError that names `where`."""
        content = _content(data, where, "torn or not a manifest")
        try:
            found = cls(
                number=content["number"],
                sha256=content["sha256"],
                created=datetime.fromisoformat(content["created"]),
                parent=content["parent"],
                document=content["document"],
                files={_name(name): _hash(digest) for name, digest in content["files"].items()},
                author=_text(content.get("author", "")),
                message=_text(content.get("message", "")),
                evidence=_evidence(content.get("evidence")),
                version=_text(content.get("version", "")),
                format=content.get("format", 1),
                lanes=_lanes(content.get("lanes")),
                signature=Signature.read(content.get("signature")),
                record=data,
            )
            sound = found.sha256 == digest_of(found.document, found.files) and found.document in found.files
            sound = sound and found.number == number
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(f"{where}: torn or not a manifest") from None
        if not sound:
            raise StoreError(f"{where}: does not match its own hash or number")
        return found


@dataclass(frozen=True, slots=True)
class Head:
    """What is current, since when, and by whom."""

    number: int
    sha256: str = ""
    """The generation's hash; empty in format 1."""
    former: tuple[int, ...] | None = ()
    """What was current before and was not rolled back, the latest first; None where a record of version 0.1 does not
    say."""
    sequence: int = 0
    """Greater with every move; 0 in format 1."""
    moved: datetime | None = None
    author: str = ""
    message: str = ""
    version: str = ""
    signature: Signature | None = None
    """Not checked: `TrustedKeys.check` does."""
    record: bytes = field(default=b"", compare=False, repr=False)
    """What it was read from, if it was."""

    def to_json(self) -> bytes:
        """Return the record as it is kept."""
        return (
            self.record
            or json.dumps(
                {
                    "format": FORMAT,
                    "number": self.number,
                    "sha256": self.sha256,
                    "former": list(self.former or ()),
                    "sequence": self.sequence,
                    "moved": self.moved.isoformat() if self.moved else None,
                    "author": self.author,
                    "message": self.message,
                    "version": self.version,
                }
            ).encode()
        )

    @classmethod
    def read(cls, data: bytes, where: str) -> "Head":
        """Return what is current; raises StoreError that names `where`."""
        wrong = "not what this store writes; expected a number"
        content = _content(data, where, wrong)
        try:
            number, former = content["number"], content.get("former")
            moved = content.get("moved")
            found = cls(
                number=number,
                sha256=_hash(content["sha256"]) if content.get("sha256") else "",
                former=former if former is None else tuple(former),
                sequence=content.get("sequence", 0),
                moved=datetime.fromisoformat(moved) if moved else None,
                author=_text(content.get("author", "")),
                message=_text(content.get("message", "")),
                version=_text(content.get("version", "")),
                signature=Signature.read(content.get("signature")),
                record=data,
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(f"{where}: {wrong}") from None
        if not isinstance(former, list | None):
            raise StoreError(f"{where}: not what this store writes; `former` is a list of numbers")
        for one in [number, *(former or [])]:
            if not _whole(one) or one < 1:
                raise StoreError(f"{where}: {one!r} is not the number of a generation")
        if not _whole(found.sequence) or not 0 <= found.sequence < BEYOND:
            raise StoreError(f"{where}: {found.sequence!r} is not a sequence number")
        return found

    def same(self, other: "Head | None") -> bool:
        """Whether both name one generation: its number, and its content where both say it."""
        if other is None or self.number != other.number:
            return False
        return not (self.sha256 and other.sha256) or self.sha256 == other.sha256


def digest_of(document: str, files: Mapping[str, str]) -> str:
    """Return the hash of a generation: over its document's name, and the names and hashes of all its files."""
    canonical = json.dumps({"document": document, "files": dict(files)}, sort_keys=True, separators=(",", ":"))
    return sha256(canonical.encode()).hexdigest()


def _content(data: bytes, where: str, wrong: str) -> dict[str, Any]:
    """Parse a record; refuses a newer format before anything else is asked of it."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        raise StoreError(f"{where}: {wrong}") from None
    if not isinstance(content, dict):
        raise StoreError(f"{where}: {wrong}")
    format = content.get("format", 1)
    if not _whole(format) or format < 1:
        raise StoreError(f"{where}: {wrong}")
    if format > FORMAT:
        writer = _shown(content.get("version"))
        raise StoreError(
            f"{where}: written in format {format}, and this muse-stream reads up to {FORMAT}: "
            f"it needs muse-stream {writer} or later"
        )
    return content


def _shown(version: object) -> str:
    return version if isinstance(version, str) and re.fullmatch(r"[\w.+-]{1,40}", version) else "of that format"


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _evidence(value: object) -> Mapping[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise TypeError
    return value


def _lanes(value: object) -> Mapping[str, Sequence[str]] | None:
    if not isinstance(value, dict):
        return None
    return {lane: tuple(_text(tenant) for tenant in tenants) for lane, tenants in value.items()}


def _hash(value: object) -> str:
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise ValueError
    return value


def _name(value: str) -> str:
    """Return the name of a file that lies in its generation's folder; it becomes a path."""
    pure = PurePosixPath(value)
    if not value or pure.is_absolute() or ".." in pure.parts or str(pure) != value or "\0" in value or "\\" in value:
        raise ValueError
    return value
