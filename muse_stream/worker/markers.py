"""Was every marker of a transaction written, on a broker that may forget some (docs/exactly-once.md, R18)?

Such a broker says that all is well. So it is noted where the partitions end once a batch's records are acknowledged,
and after the commit it is waited until readers of committed records come that far, and the group's offsets are there.
If they do not, the transaction hangs and must be ended before its producer is used again, whose next marker would
decide over both; and before the next batch is committed, or its answers would come first. Three requests a batch; none
where no broker of such a release has answered.

The committing thread's alone.
"""

from muse_stream.errors import Abortable, StreamError
from muse_stream.kafka import Ends, TopicPartitionKey
from muse_stream.worker import attempts
from muse_stream.worker.commit import Pending

WRITTEN_S = 1.0
"""How long markers may take; as a rule they are there within a few milliseconds."""
MISSING = "HANGING"


class Markers:
    """One slot's transactions: `acknowledged` comes before the next batch is sent, `check` after the commit."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._written: dict[int, tuple[int, frozenset[TopicPartitionKey], dict[TopicPartitionKey, int]]] = {}
        """Producer -> attempt, partitions that it has written to, and where they ended then."""
        self._told: dict[TopicPartitionKey, int] = {}
        """Partition -> the last stable offset at which a marker was said to be missing: if it still stands there after
        everything of ours has been ended, it is held up by somebody else."""

    def acknowledged(self, pending: Pending) -> None:
        """Note where the partitions end that this batch was written to."""
        if not self._ends.forgetful:
            return
        places = pending.written
        try:
            ends = self._ends.high(places)
        except StreamError:  # a broker is away: nothing is known of any of them
            ends = {}
        self._written[attempts.half_of(pending.attempt)] = pending.attempt, places, ends

    def check(self, pending: Pending) -> None:
        """Wait until the markers of a committed transaction are there; raises `Abortable` saying where one is not."""
        attempt, places, ends = self._written.pop(attempts.half_of(pending.attempt), (0, frozenset(), {}))
        if attempt != pending.attempt:
            return
        try:
            behind = self._ends.wait_stable(ends, WRITTEN_S, self._told)
            hidden = self._ends.group_offsets(pending.following, WRITTEN_S) is None
        except StreamError as error:
            raise Abortable(f"no broker says whether markers are written: {error}", code=MISSING) from error
        self._told |= behind
        if missing := (places - ends.keys()) | behind.keys():
            topic, partition = min(missing)
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise Abortable(f"a committed transaction has no marker in {topic}[{partition}]{more}", code=MISSING)
        if hidden:
            raise Abortable("a committed transaction has no marker beside the group's offsets", code=MISSING)
