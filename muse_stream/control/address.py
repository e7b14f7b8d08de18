"""The one door to a generation store: an address gives the store that is there.

A folder, as a path or as a `file://` URL, is a `DirectoryStore`; `redis://` and its relatives are a `RedisStore`, which
needs the extra `redis`.
"""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from muse_stream.control.directory import DirectoryStore
from muse_stream.control.store import Store
from muse_stream.errors import StoreError
from muse_stream.extras import missing_extra

REDIS = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
RIGHT = "a store is a folder: give its path, or file:///its/path; or a Redis: redis://, rediss://, redis+sentinel://"


def open_store(address: str | Path) -> Store:
    """Return the store at `address`: a folder's path or `file://` URL, or the URL of a Redis.

    It need not exist before a `publish`, and nothing is connected before the store is used. Raises StoreError for any
    other URL, MissingExtra where redis-py is not installed.
    """
    if isinstance(address, Path) or "://" not in address:
        return DirectoryStore(address)
    scheme = address.partition("://")[0].lower()
    if scheme in REDIS:
        return _redis(address)
    url = urlsplit(address)
    if url.scheme != "file":
        raise StoreError(f"{url.scheme}://: no generation store has such an address; {RIGHT}")
    if url.netloc not in ("", "localhost") or url.query or url.fragment or not url.path:
        raise StoreError(f"{address}: not a folder of this machine; {RIGHT}")
    return DirectoryStore(unquote(url.path))


def is_store(address: str | Path) -> bool:
    """Whether `address` means a store, not a configuration file: a URL, or a folder that exists."""
    return (isinstance(address, str) and "://" in address) or Path(address).is_dir()


def _redis(address: str) -> Store:
    try:
        from muse_stream.control.redis_address import RedisAddress  # noqa: PLC0415 - an extra
        from muse_stream.control.redis_store import RedisStore  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_extra(error) or error from None
    return RedisStore(RedisAddress.parse(address))
