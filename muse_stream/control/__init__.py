"""Generations: where they live, how they are published, and how a worker learns of a new one.

A generation is verified against its hashes whenever it is opened, and never changes. Nothing here is on the scoring
path, and nothing that fails here stops a worker from scoring with what it has.

    address     a path or URL -> the store there
    store       what a store offers, wherever it keeps generations; `current` moves by compare-and-swap
    directory   a store in a directory
    watch       compiles what became current, in a thread of its own
"""

from muse_stream.control.address import is_store, open_store
from muse_stream.control.directory import DirectoryStore
from muse_stream.control.store import Entry, Generation, Store, rollback
from muse_stream.control.watch import Watcher

__all__ = [
    "DirectoryStore",
    "Entry",
    "Generation",
    "Store",
    "Watcher",
    "is_store",
    "open_store",
    "rollback",
]
