"""The one way to a generation store: an address gives the store that is there.

A folder, as a path or as a `file://` URL, is a `DirectoryStore`. There is no other kind yet; it would be one more
scheme here.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from muse_stream.control.directory import DirectoryStore
from muse_stream.control.store import Store
from muse_stream.errors import StoreError

RIGHT = "a store is a folder: give its path, or file:///its/path"


def open_store(address: str | Path) -> Store:
    """Return the store at `address`: the path of a folder, or its `file://` URL. It need not exist before a `publish`.

    Raises StoreError for a URL of another scheme, and for a `file://` URL of another machine.
    """
    if isinstance(address, Path) or "://" not in address:
        return DirectoryStore(address)
    url = urlsplit(address)
    if url.scheme != "file":
        raise StoreError(f"{url.scheme}://: no generation store has such an address; {RIGHT}")
    if url.netloc not in ("", "localhost") or url.query or url.fragment or not url.path:
        raise StoreError(f"{address}: not a folder of this machine; {RIGHT}")
    return DirectoryStore(unquote(url.path))


def is_store(address: str | Path) -> bool:
    """Whether `address` means a store, not a configuration file: a URL, or a folder that exists."""
    return (isinstance(address, str) and "://" in address) or Path(address).is_dir()
