"""What an owner commits beside its offsets: its name, which topics it reads, and which generation it serves.

Rules R16, R21, R23 and R24 of docs/exactly-once.md.
"""

import hashlib
import re
from collections.abc import Iterable
from typing import NamedTuple

RELEASED, PAUSED, SET = "released", "paused", "set"
"""Marks: the group reads the partition no more, since another group does; nobody reads it now; somebody else than the
owner has set this offset (`muse-stream offsets`), and the owner has not taken it yet."""
_TEXT = re.compile(
    r"(?P<owner>.+?)(?: (?P<topics>[0-9a-f]{8}))?(?: g(?P<generation>\d{1,18}))?(?: (?P<mark>released|paused|set))?",
    re.DOTALL,
)


class Signature(NamedTuple):
    """Read from or written to the metadata of a committed offset."""

    owner: str
    topics: str = ""
    """A digest of the subscription; empty where it is not known (versions before 0.2 wrote none)."""
    mark: str = ""
    """Empty while the owner reads the partition."""
    generation: int | None = None
    """What the owner served; None where it is not known."""

    def __str__(self) -> str:
        generation = "" if self.generation is None else f"g{self.generation}"
        return " ".join(part for part in (self.owner, self.topics, generation, self.mark) if part)

    def marked(self, mark: str) -> "Signature":
        """Return the same with this mark."""
        return self._replace(mark=mark)

    def of_same(self, other: "Signature") -> bool:
        """Whether the same owner wrote both, for the same topics and with the same mark, whatever it served."""
        return self[:3] == other[:3]

    @classmethod
    def of(cls, owner: str, topics: Iterable[str], generation: int | None = None) -> "Signature":
        """Return the signature of a slot that reads these topics."""
        # a topic's name has no line break
        digest = hashlib.blake2s("\n".join(sorted(topics)).encode(), digest_size=4).hexdigest()
        return cls(owner, digest, generation=generation)

    @classmethod
    def parse(cls, text: str | None) -> "Signature | None":
        """Read what stands beside an offset; None where nothing does."""
        found = _TEXT.fullmatch(text or "")
        if found is None:
            return None
        generation = found["generation"]
        return cls(found["owner"], found["topics"] or "", found["mark"] or "", int(generation) if generation else None)
