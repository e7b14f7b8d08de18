"""What a person should know beside the findings of `verify`: what was not judged, and what it may come from."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from muse_stream.verify.compare import SeenAnswers, SeenEvents, Tally


def absent(topic: str) -> list[str]:
    """Say what a topic that is not there means."""
    return [
        f"{topic} does not exist",
        f"records that stood in {topic} cannot be seen, and an event that was answered there counts as missing; "
        "`muse-stream topics` makes the topic",
    ]


def of_older(topic: str, topic_id: str | None, count: int) -> list[str]:
    """Say that answers of an older incarnation were left out."""
    if not count:
        return []
    now = f" (its id is now {topic_id})" if topic_id else ""
    return [
        f"{topic}: {count:,} answers are not judged: they answer an older incarnation of the topic, which was deleted "
        f"and created again{now}"
    ]


def of_moved(moved: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say that answers to an event topic that no tenant has now were left out."""
    return [
        f"{output}: {count:,} answers are not judged: they answer {topic}, which is no tenant's event topic now"
        for output, sources in moved.items()
        for topic, count in sources.items()
    ]


def of_unjudged(topic: str, count: int, outputs: Sequence[str]) -> list[str]:
    """Say that events were left out whose answers may be gone."""
    if not count:
        return []
    return [
        f"{topic}: {count:,} events without an answer are not judged: their answers may be among the records that "
        f"{' and '.join(outputs)} no longer have"
    ]


def of_removed(topic: str, count: int, *, at_most: bool) -> list[str]:
    """Say what removed events mean, and how to judge without them."""
    if not count:
        return []
    how_many = f"{count:,} events"
    if at_most:
        how_many = f"at most {how_many} (markers of transactions take offsets as well)"
    return [
        f"{topic}: {how_many} were removed before they were answered, by retention or by somebody, and can no longer "
        "be scored from this topic; --since or --from-offset judges without them"
    ]


def of_missing(topic: str, tally: Tally, events: Mapping[int, SeenEvents], answers: SeenAnswers) -> list[str]:
    """Say what answers that are missing or doubled all together may come from."""
    notes: list[str] = []
    missing, doubled = tally.counts.get("missing", 0), tally.counts.get("duplicated", 0)
    if missing and len(answers.offset) and missing == sum(_before_first(one, p, answers) for p, one in events.items()):
        notes.append(
            f"{topic}: every missing answer is to an event before the first that was answered: the scores topic may "
            "have been created again since, or the tenant's scoring began there; --since or --from-offset judges from "
            "there on"
        )
    if doubled and 2 * doubled >= len(np.unique(answers.offset)):
        notes.append(
            f"{topic}: if it was deleted and created again, and the same events were sent with the same timestamps, "
            "older answers look like doubled ones: --since TIME leaves out what was written before"
        )
    return notes


def _before_first(events: SeenEvents, partition: int, answers: SeenAnswers) -> int:
    offsets = answers.offset[answers.partition == partition]
    first = offsets.min() if len(offsets) else events.end
    return int(((events.offsets >= events.low) & (events.offsets < min(int(first), events.end))).sum())


def of_denied(topics: Sequence[str]) -> Iterator[str]:
    """Say of which topics nobody may tell what they keep."""
    for topic in topics:
        yield (
            f"{topic}: its settings may not be read (TOPIC_AUTHORIZATION_FAILED), so whether it is compacted, and how "
            "long it keeps records, is not known; grant it DESCRIBE_CONFIGS: `muse-stream acl CONFIG --role verifier`"
        )
