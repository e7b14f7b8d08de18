"""Does a reading of a topic begin where it was meant to, or later, since retention has removed what was before?"""

from collections.abc import Mapping
from datetime import UTC, datetime

from muse_stream.kafka.topic_reader import Block, Bounds

DAY_MS = 86_400_000


class Beginnings:
    """Looks at the blocks of a reading; `gone` tells afterwards what is missing before them."""

    def __init__(
        self, topic: str, held: Mapping[int, Bounds], span: Mapping[int, Bounds], since_ms: int | None, end_ms: int
    ) -> None:
        """`held`: what the topic has, `span`: what is read of it, of records from `since_ms` on, until `end_ms`."""
        self._topic, self._since = topic, since_ms
        self._patience = DAY_MS if since_ms is None else min(DAY_MS, (end_ms - since_ms) / 4)
        self._open = {one for one, bound in span.items() if 0 < bound.low == held[one].low < bound.high}
        self._first: dict[int, tuple[int, int]] = {}
        """Partition -> offset of its first record, and when that was written."""

    def see(self, block: Block) -> None:
        """Look at the next records."""
        for partition in self._open & set(block.partitions):
            row = block.partitions.index(partition)
            self._first[partition] = block.offsets[row], block.messages[row].timestamp()[1]
            self._open.discard(partition)

    def gone(self) -> list[str]:
        """Return what is missing; a silence of a quarter of the window, or a day, is one (as of a gap within it)."""
        found = []
        for partition, (offset, written) in sorted(self._first.items()):
            if self._since is None or written - self._since >= self._patience:
                moment = datetime.fromtimestamp(written / 1000, UTC).isoformat(timespec="seconds")
                found.append(
                    f"{self._topic}[{partition}]: what stood before offset {offset} is gone (retention); its first "
                    f"record is of {moment}"
                )
        return found
