"""When events came, for the time that each waits for its answer.

Reading a message's timestamp costs a tenth of a microsecond. Up to `MOST` events of a batch are all read; of a larger
batch, one that works off a backlog, `MOST` at equal distances stand for all.
"""

from array import array
from collections.abc import Sequence
from typing import TypeAlias

from muse_stream.kafka import Message

MOST = 1_000
Sample: TypeAlias = "array[int]"
"""Kafka timestamps in milliseconds."""


def sample(messages: Sequence[Message]) -> Sample:
    """Return the timestamps of a batch's messages, or of some of them at equal distances."""
    count = len(messages)
    chosen = messages if count <= MOST else [messages[place * count // MOST] for place in range(MOST)]
    return array("q", [message.timestamp()[1] for message in chosen])
