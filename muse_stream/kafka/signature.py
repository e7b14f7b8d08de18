"""What an owner commits beside its offsets: its name, and which topics it reads (docs/exactly-once.md, R16 and R21)."""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

_TEXT = re.compile(r"(?P<owner>.+?)(?: (?P<topics>[0-9a-f]{8}))?", re.DOTALL)


class Signature(NamedTuple):
    """Read from or written to the metadata of a committed offset."""

    owner: str
    topics: str = ""
    """A digest of the subscription; empty where it is not known (versions before 0.2 wrote none)."""

    def __str__(self) -> str:
        return f"{self.owner} {self.topics}" if self.topics else self.owner

    @classmethod
    def of(cls, owner: str, topics: Iterable[str]) -> "Signature":
        """Return the signature of a slot that reads these topics."""
        # a topic's name has no line break
        return cls(owner, hashlib.blake2s("\n".join(sorted(topics)).encode(), digest_size=4).hexdigest())

    @classmethod
    def parse(cls, text: str | None) -> "Signature | None":
        """Read what stands beside an offset; None where nothing does."""
        found = _TEXT.fullmatch(text or "")
        return cls(found["owner"], found["topics"] or "") if found else None
