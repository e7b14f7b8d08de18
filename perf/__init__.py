"""Benchmarks: `python -m perf SCENARIO`. Figures in the documentation come from here and name the scenario.

In: a real broker (the ladder of muse_stream/testing/kafka_broker.py) and a workload. Out: a table, or JSON with --json.
Law: never a test; every figure has its floor or its peer measured in the same run, since machines are noisy.
"""
