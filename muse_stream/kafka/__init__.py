"""Everything that talks to a Kafka cluster; confluent_kafka is imported here and nowhere else.

client                  clients with our settings; Kafka's errors as our types
transactional_producer  one transactional id: a batch and its offsets, or nothing
group_consumer          a member of a consumer group that knows exactly where it stands
starting_offsets        where a partition starts: what its group has committed
partition_ends          last stable offset and end of partitions: is a transaction open there?
lag_reader              how old the first record is that waits in a partition that does not move
reader, tail            a topic read without a group: from its beginning, or as it grows
bulk_producer           framed events onto a topic, at a rate or as fast as it goes
admin, topic_plan       the topics of a cluster; which ones a configuration needs
broker_release          which release answers, and what is known to be wrong with it
partition, deadline     a partition and where it stands; one time budget for several calls
"""
