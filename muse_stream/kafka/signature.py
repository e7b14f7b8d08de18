"""What an owner commits beside its offsets: its name, and which topics it reads.

Rules R16, R21 and R23 of docs/exactly-once.md.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

RELEASED, PAUSED, SET = "released", "paused", "set"
"""Marks: the group reads the partition no more, since another group does; nobody reads it now; somebody else than the
owner has set this offset (`muse-stream offsets`), and the owner has not taken it yet."""
_TEXT = re.compile(r"(?P<owner>.+?)(?: (?P<topics>[0-9a-f]{8}))?(?: (?P<mark>released|paused|set))?", re.DOTALL)


class Signature(NamedTuple):
    """Read from or written to the metadata of a committed offset."""

    owner: str
    topics: str = ""
    """A digest of the subscription; empty where it is not known (versions before 0.2 wrote none)."""
    mark: str = ""
    """Empty while the owner reads the partition."""

    def __str__(self) -> str:
        return " ".join(part for part in self if part)

    def marked(self, mark: str) -> "Signature":
        """Return the same with this mark."""
        return self._replace(mark=mark)

    @classmethod
    def of(cls, owner: str, topics: Iterable[str]) -> "Signature":
        """Return the signature of a slot that reads these topics."""
        # a topic's name has no line break
        return cls(owner, hashlib.blake2s("\n".join(sorted(topics)).encode(), digest_size=4).hexdigest())

    @classmethod
    def parse(cls, text: str | None) -> "Signature | None":
        """Read what stands beside an offset; None where nothing does."""
        found = _TEXT.fullmatch(text or "")
        return cls(found["owner"], found["topics"] or "", found["mark"] or "") if found else None
