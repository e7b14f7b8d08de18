"""Generations: where they live, how they are published, and how a worker learns of a new one.

A generation is verified against its hashes whenever it is opened, and never changes. Nothing here is on the scoring
path, and nothing that fails here stops a worker from scoring with what it has.

    address         a path or URL -> the store there
    store           what a store offers, wherever it keeps generations; `current` moves by compare-and-swap
    records         the two records of a store, their formats, and what is refused
    signatures      who signed a record, and whose signatures are taken; signing_keys: the library behind it, an extra
    change          what differs between two generations
    directory       a store in a directory
    content         a generation's files on a disk, written durably and verified
    redis_store     a store in Redis, an extra
    redis_address   how that Redis is reached
    local_copy      what this machine keeps of a store that others share
    ephemeral_files small records that end by themselves, in a directory
    durable_files   records that stay, in a directory: what the role `calibrate` has counted
    lease           one process at a time, for those who change what is live by themselves
    follow          what a worker takes for current, whatever happens to the store
    heartbeats      what workers tell of themselves; kept in files (heartbeat_files) or keys (redis_heartbeats)
    watch           compiles what became current, in a thread of its own
"""

from muse_stream.control.address import is_store, open_store
from muse_stream.control.change import Change, change
from muse_stream.control.directory import DirectoryStore
from muse_stream.control.follow import Follower
from muse_stream.control.heartbeats import BEAT_S, SILENT_S, Beat, Heartbeat, NotAllowed, Pulse, TenantBeat, short
from muse_stream.control.lease import Held, Lease
from muse_stream.control.records import Head, Manifest
from muse_stream.control.signatures import Signer, TrustedKeys, generate, signer, signer_name, trusted_keys
from muse_stream.control.store import (
    BACK,
    Conflict,
    Entry,
    Generation,
    Note,
    Store,
    author,
    conflict,
    remembered,
    rollback,
    way_back,
)
from muse_stream.control.watch import Watcher

__all__ = [
    "BACK",
    "BEAT_S",
    "SILENT_S",
    "Beat",
    "Change",
    "Conflict",
    "DirectoryStore",
    "Entry",
    "Follower",
    "Generation",
    "Head",
    "Heartbeat",
    "Held",
    "Lease",
    "Manifest",
    "NotAllowed",
    "Note",
    "Pulse",
    "Signer",
    "Store",
    "TenantBeat",
    "TrustedKeys",
    "Watcher",
    "author",
    "change",
    "conflict",
    "generate",
    "is_store",
    "open_store",
    "remembered",
    "rollback",
    "short",
    "signer",
    "signer_name",
    "trusted_keys",
    "way_back",
]
