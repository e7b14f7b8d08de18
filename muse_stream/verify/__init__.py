"""The independent auditor: did every event get exactly one answer, in order, and its own?

It shares no state with the workers: it reads the topics from the beginning, without a group, and counts.

    verification   one run over the topics of some tenants
    collect        what is kept of the records that were seen: numbers, never payloads
    compare        events against answers, pure counting
"""
