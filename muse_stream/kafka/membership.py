"""How a consumer group notices that a member is gone: settings of every member of ours."""

from typing import Any

SESSION_MS = 9_000
"""Safe with transactions that end after 5 s: a dead member's records are readable before its partitions move."""
MEMBERSHIP: dict[str, Any] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": SESSION_MS,
    # the others hear of a rebalance by their next heartbeat: after a session that is up to 0.5 s more
    "heartbeat.interval.ms": 500,
    "topic.metadata.refresh.interval.ms": 5_000,
}
