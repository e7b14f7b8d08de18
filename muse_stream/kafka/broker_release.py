"""Which release of Kafka answers, as far as it can be told, and what is known to be wrong with it.

With `debug=feature` librdkafka says, when it connects, which requests a broker knows, in which versions. When that is a
release that forgets transaction markers, a warning is logged once a process.

A guess that errs on the silent side. It needs no permission and no request of its own, and works under TLS and SASL as
everything else does; where librdkafka says nothing, or says it in other words, nothing is said here either. What tells
is the software's newest request, not the cluster's feature level: the fault is in the software.
"""

import logging
import re

LOG = logging.getLogger("muse_stream.broker")

FORGETFUL = re.compile(r"ApiKey DescribeLogDirs \(35\) Versions \d+\.\.(\d+)")
FORGETFUL_SINCE = 5
"""Kafka 4.3 is the first to know version 5 of this request (4.2 knows 1 to 4): tests ask real brokers."""
HINT = (
    "use Kafka 4.2 until a release is known to be mended, or replication 3 and never all brokers at once; "
    "docs/exactly-once.md says what is kept"
)


class Listening(logging.Logger):
    """Takes what librdkafka says: notes what it says of a broker's release, passes on what is no debugging."""

    def __init__(self, onward: logging.Logger) -> None:
        super().__init__(onward.name, logging.DEBUG)
        self._onward = onward
        self.forgetful = False
        """Whether a broker of Kafka 4.3 or newer has answered."""

    def handle(self, record: logging.LogRecord) -> None:
        """Take one message."""
        if record.levelno > logging.DEBUG:
            if self._onward.isEnabledFor(record.levelno):
                self._onward.handle(record)
        elif found := FORGETFUL.search(record.getMessage()):
            self.forgetful |= int(found[1]) >= FORGETFUL_SINCE

    def report(self, bootstrap: str) -> None:
        """Say what is wrong with the release that was heard of, if anything is."""
        if self.forgetful:
            LOG.warning(
                "broker_forgets_markers",
                extra={
                    "bootstrap": bootstrap,
                    "error": "Kafka 4.3 or newer: it can drop the end of a transaction when a broker restarts",
                    "hint": HINT,
                },
            )
