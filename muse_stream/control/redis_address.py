"""The address of a generation store in Redis, and how it is reached.

    redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE][?prefix=muse]
    rediss://...                                            the same over TLS
    redis+sentinel://[USER[:PASSWORD]@]HOST[:PORT],HOST[:PORT]/SERVICE[/DATABASE][?prefix=muse]
    rediss+sentinel://...

A password belongs into MUSE_STORE_PASSWORD or a file (MUSE_STORE_PASSWORD_FILE), not into the address: others see the
arguments of a process. As text, an address never shows one. redis-py is imported here and in `redis_store` only.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from muse_stream import environment
from muse_stream.errors import StoreError

TIMEOUT_S = 1.0
"""For connecting, and for each answer: a store that is away must not hold up who asks."""
SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")
RIGHT = "redis://[USER@]HOST[:PORT][/DATABASE], rediss:// for TLS, redis+sentinel://HOST,HOST/SERVICE[/DATABASE]"
PREFIX = "muse"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a store is. Raises StoreError from `parse` with what would be right, never with a secret."""

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    database: int = 0
    service: str = ""
    """What Sentinel calls the master; empty without Sentinel."""
    prefix: str = PREFIX
    """What all keys begin with."""
    username: str = ""
    password: str = field(default="", repr=False)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme.startswith("rediss")

    def __str__(self) -> str:
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = f"/{self.service}/{self.database}" if self.service else f"/{self.database}"
        query = f"?prefix={self.prefix}" if self.prefix != PREFIX else ""
        return f"{self.scheme}://{hosts}{path}{query}"

    @classmethod
    def parse(cls, url: str) -> "RedisAddress":
        """Read an address."""
        try:
            return cls._parsed(url)
        except _Wrong as wrong:
            raise StoreError(f"{url.partition('://')[0]}://: {wrong}; right is {RIGHT}") from None

    @classmethod
    def _parsed(cls, url: str) -> "RedisAddress":
        parts = urlsplit(url)
        if parts.scheme not in SCHEMES or parts.fragment:
            raise _Wrong("no address of a store in Redis")
        user, _, hosts = parts.netloc.rpartition("@")
        username, _, password = user.partition(":")
        sentinel = parts.scheme.endswith("+sentinel")
        service, database = _path(parts.path, sentinel)
        found = tuple(_host(one, 26379 if sentinel else 6379) for one in hosts.split(","))
        if len(found) > 1 and not sentinel:
            raise _Wrong("several hosts, and only Sentinel has several")
        prefix = PREFIX
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name != "prefix":
                raise _Wrong(f"'{name}' is no option of a store; `prefix` is")
            prefix = value
        if not prefix or not prefix.replace("-", "").replace("_", "").replace(".", "").replace(":", "").isalnum():
            raise _Wrong("a prefix is letters, digits and . _ - :")
        return cls(parts.scheme, found, database, service, prefix, unquote(username), unquote(password))

    def connect(self) -> "redis.Redis":
        """Return a client; it connects when it is first used, and never waits longer than `TIMEOUT_S` for an answer."""
        options: dict[str, Any] = {
            "db": self.database,
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),  # who asks decides when to ask again
            "driver_info": None,  # no CLIENT SETINFO and no notifications: the user needs no right to them
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
            "credential_provider": _Credentials(self.username, self.password),
            **self._tls(),
        }
        if not self.service:
            host, port = self.hosts[0]
            return redis.Redis(host=host, port=port, **options)
        asked = {name: value for name, value in options.items() if name not in ("db", "credential_provider")}
        secret = _secret("MUSE_STORE_SENTINEL_PASSWORD")
        sentinel = Sentinel(list(self.hosts), sentinel_kwargs=asked | ({"password": secret} if secret else {}))
        for one in sentinel.sentinels:
            one.sentinel_masters = partial(_telling, one.sentinel_masters)  # type: ignore[method-assign]
        client: redis.Redis = sentinel.master_for(self.service, **options)
        return client

    def _tls(self) -> Mapping[str, Any]:
        given = environment.given()
        files = {
            "ssl_ca_certs": given.get("MUSE_STORE_SSL_CA_LOCATION"),
            "ssl_certfile": given.get("MUSE_STORE_SSL_CERTIFICATE_LOCATION"),
            "ssl_keyfile": given.get("MUSE_STORE_SSL_KEY_LOCATION"),
        }
        if not self.tls:
            return {}
        for name, file in files.items():
            if file is not None and not Path(file).is_file():
                variable = {"ssl_ca_certs": "CA", "ssl_certfile": "CERTIFICATE", "ssl_keyfile": "KEY"}[name]
                raise StoreError(f"MUSE_STORE_SSL_{variable}_LOCATION: {file}: no such file")
        return {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            **{name: file for name, file in files.items() if file},
        }


class _Unanswered(redis.ConnectionError):
    """A Sentinel gives no answer; redis-py shows `repr` of what each of them raised, which says no reason otherwise."""

    def __repr__(self) -> str:
        return str(self)


def _telling(ask: Callable[[], Any]) -> Any:
    """Ask a Sentinel; what it raises says why."""
    try:
        return ask()
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise _Unanswered(str(error)) from error


class _Wrong(Exception):
    """What is wrong with an address; holds no secret."""


class _Credentials(redis.CredentialProvider):
    """Asked whenever a connection is made, so that a password that was changed in its file is taken."""

    def __init__(self, username: str, password: str) -> None:
        self._username, self._password = username, password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return user and password, as AUTH takes them."""
        try:
            password = self._password or _secret("MUSE_STORE_PASSWORD")
        except StoreError as error:
            # of redis-py's errors alone a connection is given up that was begun
            raise redis.ConnectionError(str(error)) from error
        if self._username:
            return self._username, password
        return (password,) if password else ("default", "")


def _secret(name: str) -> str:
    """Return the value of a secret variable, or of the file that its `_FILE` names."""
    given = environment.given()
    file = given.get(f"{name}_FILE")
    if file is None:
        return given.get(name, "")
    if name in given:
        raise StoreError(f"give one of {name} and {name}_FILE")
    try:
        return Path(file).read_text().rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise StoreError(f"{name}_FILE: {file}: cannot be read ({error})") from None


def _host(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _Wrong("a host is HOST or HOST:PORT") from None
    if not host or port == 0:
        raise _Wrong("a host is HOST or HOST:PORT")
    return host, port or default


def _path(path: str, sentinel: bool) -> tuple[str, int]:
    parts = [unquote(part) for part in path.split("/") if part]
    service = ""
    if sentinel:
        if not parts:
            raise _Wrong("the name of the service is missing")
        service, *parts = parts
    if len(parts) > 1 or (parts and not (parts[0].isascii() and parts[0].isdigit() and len(parts[0]) < 5)):
        raise _Wrong("the database is a number")
    return service, int(parts[0]) if parts else 0
