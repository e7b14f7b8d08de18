"""Generations: where they live, how they are published, and how a worker learns of a new one.

In: a loaded document with its files. Out: immutable numbered generations, `current` moved by compare-and-swap,
and a `Watcher` that compiles what became current, off the hot path.
Law: a generation is verified against its hashes whenever it is opened, and never changes; nothing here is on the
scoring path, and nothing that fails here stops a worker from scoring with what it has.
"""

from muse_stream.control.address import is_store, open_store
from muse_stream.control.directory import DirectoryStore
from muse_stream.control.store import Entry, Generation, Log, Store, rollback
from muse_stream.control.watch import Watcher

__all__ = [
    "DirectoryStore",
    "Entry",
    "Generation",
    "Log",
    "Store",
    "Watcher",
    "is_store",
    "open_store",
    "rollback",
]
