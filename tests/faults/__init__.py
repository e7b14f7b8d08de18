"""Broker faults under load: what is kept on which version of Kafka. `make faults` for the long form."""
