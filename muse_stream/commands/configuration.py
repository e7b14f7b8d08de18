"""Which configuration a path means: a YAML file, or the folder of a generation store.

Returns the loaded document and its generation number (0: a file). A store, by its folder or URL, means its current
generation, verified against its hashes.
"""

from dataclasses import dataclass
from pathlib import Path

from muse_stream.config import Loaded, load_document
from muse_stream.control import is_store, open_store
from muse_stream.errors import ConfigError, MuseError, Problem, StoreError


@dataclass(frozen=True, slots=True)
class Configuration:
    """A checked document and where it came from."""

    loaded: Loaded
    path: Path
    number: int
    """Generation; 0 for a file that was not published."""

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
        return Configuration(load_document(Path(path)), Path(path), 0)
    store = open_store(path)
    number = store.current()
    if number is None:
        raise StoreError(f"{path} holds no generation; give a configuration file, or publish one there first")
    generation = store.open(number)
    return Configuration(load_document(generation.path), generation.path, number)


def check_lane(store: str | Path, lane: str) -> None:
    """Refuse what workers could only crash on, again and again: a store with no generation, a lane with no tenant.

    A current generation that cannot be opened is left to them: they serve the last good one. Raises StoreError or
    ConfigError.
    """
    if open_store(store).current() is None:
        raise StoreError(f"{store} holds no generation; publish one there with `muse-stream publish`")
    try:
        configuration = open_configuration(store)
    except MuseError:
        return
    lanes = configuration.loaded.document.lanes()
    if lane not in lanes:
        message = f"no tenant belongs to lane '{lane}'"
        raise ConfigError([Problem("tenants", message, f"lanes: {', '.join(lanes)}", file=str(configuration.path))])
