"""What `promote` and its guard said in a guided run."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from muse_stream.commands.evidence import Evidence
from muse_stream.errors import Problem

TOLERANCE = 0.5
"""Share of a promised alert rate by which it may move: a short run has few events of its smallest tenant."""
REASON = "the guided run goes on, to show what happens"
"""Why a promotion is made that its evidence speaks against: there may be too few of somebody's own events."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """One promotion that was refused, and one that was made."""

    refused: Sequence[Problem]
    """What spoke against the first attempt, when the new predictor had no maps."""
    evidence: Sequence[Evidence]
    """What the promotion that was made rests on."""
    against: Sequence[Problem]
    """What speaks against that one; it took a reason if there is anything."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "refused": [one.message for one in self.refused],
            "tolerance": TOLERANCE,
            "evidence": [asdict(one) for one in self.evidence],
            "against": [one.message for one in self.against],
        }
