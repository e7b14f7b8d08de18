"""Every `MUSE_*` environment variable of the project: which there are, and that no other is given.

Returns the value of a variable, or raises `ConfigError` naming every variable that is unknown, with what was probably
meant. Nothing else in the package looks a `MUSE_*` variable up, so one that is misspelt is refused by whatever reads
any of them, and never ignored.

Kubernetes puts variables of its own into every pod, named after the Services of the namespace: for a Service called
`muse` they are `MUSE_SERVICE_HOST`, `MUSE_PORT` and the like. Those, told by name and value, are let pass.
"""

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from muse_stream.errors import ConfigError, Problem

PREFIX = "MUSE_"
KAFKA = "MUSE_KAFKA_"

CONNECTION: Mapping[str, str] = {
    "MUSE_KAFKA_BOOTSTRAP_SERVERS": "brokers, as host:port separated by commas; localhost:9092 when not set",
    "MUSE_KAFKA_CLIENT_ID": "what brokers call this client in their logs and quotas; muse-stream when not set",
    "MUSE_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT (when not set), SSL, SASL_PLAINTEXT or SASL_SSL",
    "MUSE_KAFKA_SASL_MECHANISM": "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or GSSAPI",
    "MUSE_KAFKA_SASL_USERNAME": "user name for PLAIN and SCRAM",
    "MUSE_KAFKA_SASL_PASSWORD": "password for PLAIN and SCRAM",
    "MUSE_KAFKA_SASL_PASSWORD_FILE": "file that holds this password, in place of the variable",
    "MUSE_KAFKA_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": "where OAUTHBEARER gets its tokens (OIDC client credentials)",
    "MUSE_KAFKA_SASL_OAUTHBEARER_CLIENT_ID": "client id for the token endpoint",
    "MUSE_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET": "client secret for the token endpoint",
    "MUSE_KAFKA_SASL_OAUTHBEARER_CLIENT_SECRET_FILE": "file that holds this secret, in place of the variable",
    "MUSE_KAFKA_SASL_OAUTHBEARER_SCOPE": "scope to ask the token endpoint for",
    "MUSE_KAFKA_SSL_CA_LOCATION": "certificates (PEM) of those who may sign a broker's certificate",
    "MUSE_KAFKA_SSL_CERTIFICATE_LOCATION": "this client's certificate (PEM)",
    "MUSE_KAFKA_SSL_KEY_LOCATION": "this client's private key (PEM)",
    "MUSE_KAFKA_SSL_KEY_PASSWORD": "password of this private key",
    "MUSE_KAFKA_PROPERTIES_FILE": "file of librdkafka properties, name=value a line, for every client",
}
"""How Kafka is reached: read by every command that talks to it."""

STORE: Mapping[str, str] = {
    "MUSE_STORE": "generation store of commands that are given none: a folder, or a Redis URL",
    "MUSE_STORE_PASSWORD": "password of the user that the store's URL names",
    "MUSE_STORE_PASSWORD_FILE": "file that holds this password, in place of the variable",
    "MUSE_STORE_SENTINEL_PASSWORD": "password of the Sentinels that a redis+sentinel:// URL names",
    "MUSE_STORE_SENTINEL_PASSWORD_FILE": "file that holds this password, in place of the variable",
    "MUSE_STORE_SSL_CA_LOCATION": "certificates (PEM) of those who may sign the certificate of Redis (rediss://)",
    "MUSE_STORE_SSL_CERTIFICATE_LOCATION": "this client's certificate for Redis (PEM)",
    "MUSE_STORE_SSL_KEY_LOCATION": "this client's private key for Redis (PEM)",
    "MUSE_SIGN_KEY_FILE": "private key (ed25519, PEM) that signs what this command writes to the store",
    "MUSE_TRUSTED_KEYS_FILE": "public keys; `run` serves only what one of them has signed",
    "MUSE_AUTHOR": "who publishes, as generations record it; user@host when not set",
    "MUSE_CACHE_DIR": "folder for copies of generations, models and native code; ~/.cache/muse-stream when not set",
    "MUSE_CODE_CACHE_DIR": "folder for native code, where that of MUSE_CACHE_DIR may be written by others",
    "MUSE_CACHE_MAX_MB": "most megabytes of a store's copies; 4096 when not set",
}
"""Where generations are, and how that is reached."""

REGISTRY: Mapping[str, str] = {
    "MUSE_REGISTRY_URL": "Schema Registry with Confluent's API, as https://host:port/path; several separated by commas",
    "MUSE_REGISTRY_USERNAME": "user name for basic authentication at the registry",
    "MUSE_REGISTRY_PASSWORD": "password for it",
    "MUSE_REGISTRY_PASSWORD_FILE": "file that holds this password, in place of the variable",
    "MUSE_REGISTRY_OAUTH_TOKEN_ENDPOINT_URL": "where tokens for the registry are got (OAuth client credentials)",
    "MUSE_REGISTRY_OAUTH_CLIENT_ID": "client id for this token endpoint",
    "MUSE_REGISTRY_OAUTH_CLIENT_SECRET": "client secret for this token endpoint",
    "MUSE_REGISTRY_OAUTH_CLIENT_SECRET_FILE": "file that holds this secret, in place of the variable",
    "MUSE_REGISTRY_OAUTH_SCOPE": "scope to ask this token endpoint for",
    "MUSE_REGISTRY_OAUTH_LOGICAL_CLUSTER": "logical cluster of a registry in Confluent Cloud (lsrc-...)",
    "MUSE_REGISTRY_OAUTH_IDENTITY_POOL": "identity pool in Confluent Cloud (pool-...)",
    "MUSE_REGISTRY_SSL_CA_LOCATION": "certificates (PEM) of those who may sign the registry's certificate",
    "MUSE_REGISTRY_SSL_CERTIFICATE_LOCATION": "this client's certificate for the registry (PEM)",
    "MUSE_REGISTRY_SSL_KEY_LOCATION": "this client's private key for the registry (PEM)",
    "MUSE_REGISTRY_SSL_KEY_PASSWORD": "password of this private key",
    "MUSE_REGISTRY_SSL_KEY_PASSWORD_FILE": "file that holds this password, in place of the variable",
}
"""How a Schema Registry is reached."""

TRACING: Mapping[str, str] = {
    "MUSE_TRACE_SAMPLE_RATIO": "share of events that get a span, from 0 to 1; no tracing when not set",
}
"""Spans of sampled events; where they go is said by the variables `OTEL_*` of OpenTelemetry."""

PROCESS: Mapping[str, str] = {
    "MUSE_LOG_LEVEL": "least level of log lines: debug, info, warning or error",
    "MUSE_HEALTH_HOST": "address that `run` answers /started, /ready, /live and /metrics on; 0.0.0.0 when not set",
    "MUSE_MAX_MEMORY": "resident memory at which `run` replaces a worker, such as 2G; no limit when not set",
    "MUSE_HEALTH_PORT": "port of these pages; worker n is on this port + n",
    "MUSE_METRICS_PORT": "port of the pages of a whole run, of all its workers as one",
}
"""Options of commands, for those who start them from a script or a manifest."""

TESTING: Mapping[str, str] = {
    "MUSE_KAFKA_IMAGE": "container image of the broker that `broker`, `demo` and the tests start",
    "MUSE_REDIS_URL": "Redis for the demo and the tests, in place of one that is started",
    "MUSE_REDIS_IMAGE": "container image of the Redis that the demo and the tests start",
    "MUSE_BASE_IMAGE": "image that deploy/kafka/local_image.sh builds on",
    "MUSE_PERF_EVENTS": "Parquet file of transactions for `make perf`",
    "MUSE_BACKTEST_EVENTS": "Parquet file of the Handbook's transactions for `make backtest`",
    "MUSE_FAILPOINTS": "steps of a transaction at which a worker kills or stops itself, for tests of faults",
}
"""What only tests, benchmarks and the broker for trying things out read."""

CACHE_MAX_MB = 4096

VARIABLES: Mapping[str, str] = {**CONNECTION, **STORE, **REGISTRY, **TRACING, **PROCESS, **TESTING}

RENAMED: Mapping[str, str] = {"MUSE_KAFKA_BOOTSTRAP": "MUSE_KAFKA_BOOTSTRAP_SERVERS"}

_URL = r"(?:tcp|udp|sctp)://\S+:\d+"
_PORT = r"\d+"
_LINKS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = tuple(
    (re.compile(rf"MUSE(?:_[A-Z0-9_]+)?_{name}"), re.compile(value))
    for name, value in (
        ("SERVICE_HOST", r"[0-9a-fA-F.:]+"),
        ("SERVICE_PORT(?:_[A-Z0-9_]+)?", _PORT),
        ("PORT", _URL),
        (r"PORT_\d+_(?:TCP|UDP|SCTP)", _URL),
        (r"PORT_\d+_(?:TCP|UDP|SCTP)_PROTO", "tcp|udp|sctp"),
        (r"PORT_\d+_(?:TCP|UDP|SCTP)_PORT", _PORT),
        (r"PORT_\d+_(?:TCP|UDP|SCTP)_ADDR", r"[0-9a-fA-F.:]+"),
    )
)
"""Name and value of what Kubernetes injects for a Service whose name begins with `muse`."""


def check() -> None:
    """Raise `ConfigError` with every variable of the environment that looks like ours and is not.

    A variable that Kubernetes injected under a name of ours (a Service `muse-health` gives MUSE_HEALTH_PORT) is taken
    out of the environment: nobody set it.
    """
    for name in [name for name in VARIABLES if service_link(name, os.environ.get(name, ""))]:
        del os.environ[name]
    if problems := list(_problems(os.environ)):
        raise ConfigError(problems)


def given() -> dict[str, str]:
    """Return the variables that are set; raises `ConfigError` as `check` does."""
    check()
    return {name: os.environ[name] for name in VARIABLES if name in os.environ}


def read(name: str) -> str:
    """Return the value of one variable of `VARIABLES`, nothing when it is not set; checks all of them first."""
    assert name in VARIABLES, name  # noqa: S101  # the table is complete: what is read stands in it
    return _CHOSEN.get(name) or given().get(name, "")


_CHOSEN: dict[str, str] = {}


def choose(name: str, value: str) -> None:
    """Have the option of a command come before its variable, for as long as the command runs."""
    assert name in VARIABLES, name  # noqa: S101
    _CHOSEN[name] = value


def forget_choices() -> None:
    """End a command."""
    _CHOSEN.clear()


def cache_dir() -> Path:
    """Return the folder for what can be fetched again: MUSE_CACHE_DIR, or the user's cache folder."""
    if named := read("MUSE_CACHE_DIR"):
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muse-stream"
    except RuntimeError:  # a user without a home
        raise ConfigError([Problem("MUSE_CACHE_DIR", "is not set, and this user has no home folder")]) from None


def code_cache_dir() -> Path:
    """Return the folder for native code, which nobody else may write: MUSE_CODE_CACHE_DIR, or the cache's own."""
    named = read("MUSE_CODE_CACHE_DIR")
    return Path(named) if named else cache_dir()


def cache_bytes() -> int:
    """Return how large the copies of one store may be."""
    value = read("MUSE_CACHE_MAX_MB")
    if not value:
        return CACHE_MAX_MB << 20
    if not (value.isascii() and value.isdigit() and 0 < int(value) < 10**9):
        raise ConfigError([Problem("MUSE_CACHE_MAX_MB", f"'{value}' is not a number of megabytes", "such as 4096")])
    return int(value) << 20


def trace_ratio() -> float | None:
    """Return the share of events that get a span; None where nothing is traced."""
    value = read("MUSE_TRACE_SAMPLE_RATIO")
    if not value:
        return None
    if re.fullmatch(r"0|1|0?\.\d{1,9}|1\.0{1,9}", value) is None:
        raise ConfigError(
            [Problem("MUSE_TRACE_SAMPLE_RATIO", f"'{value}' is not a share of events", "a number from 0 to 1, as 0.01")]
        )
    return float(value)


def service_link(name: str, value: str) -> bool:
    """Whether this is a variable that Kubernetes injects for a Service."""
    return any(names.fullmatch(name) and values.fullmatch(value) for names, values in _LINKS)


def _problems(environment: Mapping[str, str]) -> Iterator[Problem]:
    for name in sorted(environment):
        right = name.upper()
        if name in VARIABLES or not right.startswith(PREFIX) or service_link(name, environment[name]):
            continue
        if name in RENAMED:
            yield Problem(name, f"is called {RENAMED[name]} now", f"rename it to {RENAMED[name]}")
            continue
        meant = _nearest(right)
        if name != right and not meant:
            continue  # names in lower case are other programs', unless it is clear what was meant
        case = "; names are in upper case" if name != right else ""
        yield Problem(name, f"muse-stream has no such variable{case}", _hint(right, meant))


def _nearest(name: str) -> str:
    """Return the variable that was probably meant, or nothing; what all names begin with says nothing."""
    bare = {known.removeprefix(KAFKA).removeprefix(PREFIX): known for known in VARIABLES}
    close = get_close_matches(name.removeprefix(KAFKA).removeprefix(PREFIX), list(bare), n=1)
    return bare[close[0]] if close else ""


def _hint(name: str, meant: str) -> str:
    question = f"did you mean {meant}?"
    if name.startswith(KAFKA):
        first = question if meant else f"the address of Kafka is {KAFKA}BOOTSTRAP_SERVERS;"
        return f"{first} other properties of the Kafka client go into the file that {KAFKA}PROPERTIES_FILE names"
    return question if meant else f"names that begin with {PREFIX} are muse-stream's; `muse-stream --help` lists them"
