"""One process at a time: a lease in the store, for those who change what is live by themselves.

A lease is a small record that ends by itself (`Store.set_ephemeral`): who has it, and a token that no other holder has
or had. It is renewed in a thread of its own for as long as the process lives, so a killed process loses it within
LEASE_S. Before each act `check` asks the store once more; a process that was stopped for longer than that finds that
another one has taken over, and does nothing. What is done after that check is still guarded by `current`, which moves
by compare-and-swap.
"""

import json
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from muse_stream.control.store import Store, author
from muse_stream.errors import StoreError

LEASE_S = 15.0
"""How long a lease outlives the process that held it."""
RENEWALS = 3
"""In that time."""


class Held(StoreError):
    """Somebody else has the lease."""


@dataclass
class Lease:
    """The right to do something, while the block lasts. Raises Held on entry, StoreError for the store."""

    store: Store
    name: str
    """Of the lease: who takes the same name excludes each other."""
    doing: str
    """What is done with it, told to whoever is refused."""
    seconds: float = LEASE_S
    token: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self._record = json.dumps({"holder": author(), "doing": self.doing, "token": self.token}).encode()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        if not self.store.set_ephemeral(self.name, self._record, self.seconds, expected=None):
            raise Held(f"{self.store}: {_holder(self.store.ephemeral(self.name))}; a process that was killed keeps it "
                       f"for at most {self.seconds:g} s")  # fmt: skip
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join(self.seconds)
        with suppress(StoreError):  # it ends by itself
            self.store.set_ephemeral(self.name, None, 0.0, expected=self._record)

    def check(self) -> None:
        """Renew it now; raises Held when another process has it, StoreError when the store does not answer."""
        if self.store.set_ephemeral(self.name, self._record, self.seconds, expected=self._record):
            return
        # it had run out: nobody else has taken it, or somebody has
        if not self.store.set_ephemeral(self.name, self._record, self.seconds, expected=None):
            raise Held(f"{self.store}: the lease was lost: {_holder(self.store.ephemeral(self.name))}")

    def _renew(self) -> None:
        while not self._ended.wait(self.seconds / RENEWALS):
            with suppress(StoreError):  # the next `check` tells
                self.store.set_ephemeral(self.name, self._record, self.seconds, expected=self._record)


def _holder(record: bytes | None) -> str:
    try:
        found = json.loads(record or b"null")
        return f"{found['holder']} is at it: {found['doing']}"
    except (ValueError, KeyError, TypeError):
        return "another process is at it"
