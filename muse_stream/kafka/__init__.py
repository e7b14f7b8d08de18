"""Everything that talks to a Kafka cluster.

client                  clients with our settings, and their log
errors                  what each error of Kafka means: one table
explain, unreachable    the same in words for a person: an error; why no broker can be reached
transactional_producer  one transactional id: a batch and its offsets, or nothing
deliveries              which records of a transaction were not written, and why
throttle                how long a quota holds us back
counting_consumer       a member of a group whose offsets are kept elsewhere
group_consumer          a member of a consumer group that knows its exact positions
membership              how soon a group notices that a member is gone
offsets                 what a group has committed, and which offset is there at a moment
starting_offsets        where a partition starts: what its group has committed
first_offsets           where it starts when the group has committed nothing
other_groups            what other groups of the fleet have committed of our partitions
coordinators            which partition keeps a group or a transactional id, and whether anybody leads it
partition_ends          last stable offset and end of partitions: is a transaction open there?
signature               what an owner commits beside its offsets
unowned                 partitions that the group has given to nobody
span_reader             records between two offsets of partitions
lag_reader              how old the first record is that waits in a partition that does not move
topic_reader, tail      a topic read without a group: from its beginning, or as it grows
beginnings              what retention has removed before such a reading
bulk_producer           framed events onto a topic, at a rate or as fast as it goes
admin, topic_plan       the topics of a cluster; which ones a configuration needs
permissions             what each role may do on a cluster
admin_answers           answers of an AdminClient, or why there is none
cluster_state           brokers, topics and groups as far as a configuration is concerned
broker_release          which release answers, and what is known to be wrong with it
partition, deadline     a partition and the position in it; one time budget for several calls
"""

from confluent_kafka import Consumer, Message
from confluent_kafka.admin import AdminClient

from muse_stream.kafka import client
from muse_stream.kafka.admin import carry_out, exists, has_members, survey, topic_ids, topic_settings
from muse_stream.kafka.beginnings import Beginnings
from muse_stream.kafka.broker_release import HINT as FORGETFUL_HINT
from muse_stream.kafka.broker_release import Listening
from muse_stream.kafka.bulk_producer import Chunk, Ingest, Sent
from muse_stream.kafka.client import reach
from muse_stream.kafka.cluster_state import (
    ClusterState,
    GroupState,
    allowed,
    allowed_on_group,
    broker_settings,
    cluster_state,
    group_state,
    newest_stamps,
    read_some,
)
from muse_stream.kafka.coordinators import kept_in
from muse_stream.kafka.counting_consumer import CountingConsumer
from muse_stream.kafka.deadline import Deadline
from muse_stream.kafka.deliveries import Undelivered
from muse_stream.kafka.errors import About, names, typed
from muse_stream.kafka.first_offsets import HANDOVER_S, First, FirstOffsets, Source, StartAt, Unknown, sources
from muse_stream.kafka.group_consumer import GroupConsumer
from muse_stream.kafka.lag_reader import READER, LagReader
from muse_stream.kafka.membership import MEMBERSHIP
from muse_stream.kafka.offsets import CommittedOffset, all_offsets_at, committed_offsets, offsets_at, record_at
from muse_stream.kafka.partition import Position, Standing, TopicPartitionKey
from muse_stream.kafka.partition_ends import End, Ends, Records, Unreadable
from muse_stream.kafka.permissions import NEEDS, Grant, permissions
from muse_stream.kafka.signature import PAUSED, RELEASED, SET, Signature
from muse_stream.kafka.span_reader import BEGINNING, END, partition_counts, read_spans, span_reader
from muse_stream.kafka.starting_offsets import Free, StartingOffsets
from muse_stream.kafka.tail import Record, Start, follow
from muse_stream.kafka.throttle import Throttle
from muse_stream.kafka.topic_plan import Change, Existing, Needed, Options, needed, plan
from muse_stream.kafka.topic_reader import Block, Bounds, Reading, between, bounds, committed, reader
from muse_stream.kafka.transactional_producer import (
    NOT_QUEUED,
    Blocked,
    TopicsSeen,
    TransactionalProducer,
    open_producer,
)
from muse_stream.kafka.unowned import Unowned

__all__ = [
    "BEGINNING",
    "END",
    "FORGETFUL_HINT",
    "HANDOVER_S",
    "MEMBERSHIP",
    "NEEDS",
    "NOT_QUEUED",
    "PAUSED",
    "READER",
    "RELEASED",
    "SET",
    "About",
    "AdminClient",
    "Beginnings",
    "Block",
    "Blocked",
    "Bounds",
    "Change",
    "Chunk",
    "ClusterState",
    "CommittedOffset",
    "Consumer",
    "CountingConsumer",
    "Deadline",
    "End",
    "Ends",
    "Existing",
    "First",
    "FirstOffsets",
    "Free",
    "Grant",
    "GroupConsumer",
    "GroupState",
    "Ingest",
    "LagReader",
    "Listening",
    "Message",
    "Needed",
    "Options",
    "Position",
    "Reading",
    "Record",
    "Records",
    "Sent",
    "Signature",
    "Source",
    "Standing",
    "Start",
    "StartAt",
    "StartingOffsets",
    "Throttle",
    "TopicPartitionKey",
    "TopicsSeen",
    "TransactionalProducer",
    "Undelivered",
    "Unknown",
    "Unowned",
    "Unreadable",
    "all_offsets_at",
    "allowed",
    "allowed_on_group",
    "between",
    "bounds",
    "broker_settings",
    "carry_out",
    "client",
    "cluster_state",
    "committed",
    "committed_offsets",
    "exists",
    "follow",
    "group_state",
    "has_members",
    "kept_in",
    "names",
    "needed",
    "newest_stamps",
    "offsets_at",
    "open_producer",
    "partition_counts",
    "permissions",
    "plan",
    "reach",
    "read_some",
    "read_spans",
    "reader",
    "record_at",
    "sources",
    "span_reader",
    "survey",
    "topic_ids",
    "topic_settings",
    "typed",
]
