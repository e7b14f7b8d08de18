"""Which configuration a path means: a YAML file, or the folder of a generation store.

Returns the loaded document and its generation number (0: a file). A store, by its folder or URL, means its current
generation, verified against its hashes.
"""

from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from muse_stream.config import Loaded, load_document
from muse_stream.control import Follower, Store, is_store, open_store
from muse_stream.errors import ConfigError, MuseError, Problem, StoreError


class Configuration(Struct, frozen=True):
    """A checked document and where it came from."""

    loaded: Loaded
    path: Path
    number: int
    """Generation; 0 for a file that was not published."""
    named: str
    """What the caller called it: a file, or a store."""

    def tenant(self, name: str) -> str:
        """Return `name` if it is a tenant; raises ConfigError that lists the ones there are."""
        if name in self.loaded.document.tenants:
            return name
        known = ", ".join(self.loaded.document.tenants)
        raise ConfigError(
            [Problem("tenants", f"there is no tenant '{name}'", f"there is: {known}", file=str(self.path))]
        )


def open_configuration(path: str | Path) -> Configuration:
    """Load the configuration that `path` means; raises ConfigError or StoreError."""
    if not is_store(path):
        return Configuration(load_document(Path(path)), Path(path), 0, str(path))
    store = open_store(path)
    try:
        head = store.head()
        if head is None:
            raise StoreError(f"{store} holds no generation; give a configuration file, or publish one there first")
        generation = store.open(head.number, head.sha256)
    finally:
        store.close()
    return Configuration(load_document(generation.path), generation.path, head.number, str(path))


def open_side(text: str, store: str | Path | None) -> Loaded:
    """Load what one side of a comparison means: a generation of `store` by its number, `current`, or a file.

    Raises ConfigError or StoreError.
    """
    if not (text.isascii() and text.isdigit()) and text != "current":
        return load_document(Path(text))
    if store is None:
        hint = "name the store with --store, or give the path of a file"
        raise ConfigError([Problem(text, "this is a generation, and no store was given", hint)])
    opened = open_store(store)
    try:
        number = opened.current() if text == "current" else int(text)
        if number is None:
            raise StoreError(f"{opened} holds no generation; publish one there with `muse-stream publish`")
        return load_document(opened.open(number).path)
    finally:
        opened.close()


def generation_or_none(store: Store, number: int) -> Loaded | None:
    """Load a generation; None where it is gone or damaged.

    Raises StoreError where the store does not answer: nothing is known of the generation then.
    """
    try:
        return load_document(store.open(number).path)
    except MuseError:
        store.head()  # raises where the store is away
    with suppress(MuseError):  # it may have been away for a moment
        return load_document(store.open(number).path)
    return None


def check_lane(store: str | Path, lane: str, trusted: Path | None = None) -> str | None:
    """Refuse what workers could only crash on, again and again: a store with no generation, a lane with no tenant.

    Where the store is away, the copy on this machine is asked. A current generation that cannot be opened is left to
    the workers: they serve the last good one. Returns the namespace, None where that cannot be read. Raises StoreError
    or ConfigError.
    """
    opened = open_store(store)
    try:
        source = Follower(opened, trusted)
        head, _ = source.first()
        try:
            generation = source.open(head.number, head.sha256)
            loaded = load_document(generation.path)
        except MuseError:
            return None
    finally:
        opened.close()
    lanes = loaded.document.lanes()
    if lane not in lanes:
        message = f"no tenant belongs to lane '{lane}'"
        raise ConfigError([Problem("tenants", message, f"lanes: {', '.join(lanes)}", file=str(generation.path))])
    return loaded.document.namespace
