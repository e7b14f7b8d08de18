"""The independent auditor: did every event get exactly one answer, in order, and its own?

It shares no state with the workers: it reads the topics, without a group, and counts.

    verification   one run over the topics of some tenants
    collect        what is kept of the records that were seen: numbers, never payloads
    compare        events against answers, pure counting
    incarnation    which answers are to a topic that was deleted and created again
    removed        what retention has taken: events without an answer, answers that are gone
    span           which part of the topics is judged
    advice         what a person should know beside the findings
    audit          live scores that shadow workers computed, against the published ones
"""

from muse_stream.verify.audit import AuditKeys, AuditReport
from muse_stream.verify.collect import AuditDecoder, EventDecoder, EventKeys, ScoreDecoder, ScoreKeys
from muse_stream.verify.span import Span
from muse_stream.verify.verification import SETTLE_S, Decoders, Known, Progress, Report, Target, Verification, targets

__all__ = [
    "SETTLE_S",
    "AuditDecoder",
    "AuditKeys",
    "AuditReport",
    "Decoders",
    "EventDecoder",
    "EventKeys",
    "Known",
    "Progress",
    "Report",
    "ScoreDecoder",
    "ScoreKeys",
    "Span",
    "Target",
    "Verification",
    "targets",
]
