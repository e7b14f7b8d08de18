"""Benchmarks: `python -m perf SCENARIO`. Figures in the documentation come from here and name the scenario.

They run on a real broker (the ladder of muse_stream/testing/kafka_broker.py) and give a table, or JSON with --json.
Never a test; every figure has its floor or its peer measured in the same run, since machines are noisy.
"""
