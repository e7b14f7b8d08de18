"""The generation store in a Redis that fails under load: `python -m tests.store_faults`."""
