"""Kafka: consume, transaction, worker loop, dead letters, topics, supervisor. confluent_kafka lives here only."""
