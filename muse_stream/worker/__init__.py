"""The exactly-once loop: poll a batch, have it scored, send and commit its records in one transaction.

loop            collect, score, send, hand over for committing; what is done when Kafka refuses
batch           raw records in columns; records to send; what scores them (`Scorer`)
send_records    the one loop over records: bytes to Kafka           dead_letter   what a dead letter looks like
commit          two producers used alternately, and the thread that commits
isolate         which record is refused by Kafka: halve the batch   poison        which one kills the process
batch_size, pace  how much a transaction may hold, when Kafka is slow or a quota holds us back
id_pairs        which two transactional ids a slot works under
paused_topics   event topics that must not be read now              linger        when to commit
ownership       what owners have left beside offsets                stalled       partitions of which nothing is read
last_answers    where the answers of a partition end                cures         what to do about a paused tenant
recovery, end_transactions, hanging_transactions, open_transactions, attempts, markers
                transactions that a broker has left open (docs/exactly-once.md)
progress, backlog, meter, latency   what is counted, what waits and for how long, and who is told
tracer          spans of sampled events, as far as the loop knows of them
readiness, unread          whether it does its work; which events cannot be read
failpoints      places where a test can end this process
slot            `open_worker`: all of it for one slot
"""

from muse_stream.worker import dead_letter, failpoints
from muse_stream.worker.backlog import UNKNOWN_S, Waiting
from muse_stream.worker.batch import (
    Batch,
    BatchLimits,
    DeadLetter,
    Groups,
    Header,
    Origin,
    Records,
    Scorer,
    Tally,
    Topology,
    joined,
)
from muse_stream.worker.last_answers import LastAnswers
from muse_stream.worker.latency import Sample
from muse_stream.worker.loop import Worker
from muse_stream.worker.poison import Guard, InHand, PoisonSearch, Suspects
from muse_stream.worker.slot import SlotName, open_worker
from muse_stream.worker.tracer import TRACEPARENT, Traced, Tracer

__all__ = [
    "TRACEPARENT",
    "UNKNOWN_S",
    "Batch",
    "BatchLimits",
    "DeadLetter",
    "Groups",
    "Guard",
    "Header",
    "InHand",
    "LastAnswers",
    "Origin",
    "PoisonSearch",
    "Records",
    "Sample",
    "Scorer",
    "SlotName",
    "Suspects",
    "Tally",
    "Topology",
    "Traced",
    "Tracer",
    "Waiting",
    "Worker",
    "dead_letter",
    "failpoints",
    "joined",
    "open_worker",
]
