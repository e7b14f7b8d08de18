"""What this package tells whoever measures it.

In: counts and seconds. Out: nothing.
Law: the room counts what happened; the composition root decides under which names it is shown.
"""

from typing import Protocol


class Meter(Protocol):
    """What the worker tells whoever measures it."""

    def scored(self, events: int, answers: int, seconds: float) -> None: ...  # noqa: D102
    def dead_letter(self, reason: str) -> None: ...  # noqa: D102
    def committed(self, events: int, seconds: float) -> None: ...  # noqa: D102
    def aborted(self, code: str) -> None: ...  # noqa: D102
    def lag(self, records: int) -> None: ...  # noqa: D102
    def generation(self, number: int) -> None: ...  # noqa: D102
    def hanging(self, partitions: int) -> None: ...  # noqa: D102
    def hanging_ended(self, records: int, copied: int) -> None: ...  # noqa: D102
