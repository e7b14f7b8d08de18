"""Load a configuration to score with, from Python; needs no Kafka."""

from pathlib import Path

from muse_stream.commands.configuration import open_configuration
from muse_stream.config import Role, load_document
from muse_stream.control import is_store
from muse_stream.runtime.compile import WHOLE, compile_generation
from muse_stream.scoring import Snapshot


def load(path: str | Path, *, role: Role = WHOLE) -> Snapshot:
    """Load a configuration file, or the current generation of a store, for use in a notebook or a script.

    `path` is a YAML file, or a store's folder or URL. `role="live"` leaves out what only shadow predictors need.
    Raises ConfigError with every problem of the document and of the models it names, StoreError for a store.
    """
    if not is_store(path):
        return compile_generation(load_document(Path(path)), 0, role).snapshot
    configuration = open_configuration(path)
    return compile_generation(configuration.loaded, configuration.number, role).snapshot
