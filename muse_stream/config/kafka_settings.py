"""How Kafka is reached: `MUSE_KAFKA_*` variables, and the file of librdkafka properties that one of them may name.

The environment (`muse_stream.environment` has the table of variables) gives a frozen `KafkaSettings`. What is wrong is
a `ConfigError`, all at once, each problem named by its variable, or by file, line and property. What a variable and the
file both give must agree: neither overrides the other.

Invariant: a secret lives in the environment or in a file, never in the configuration document, and never in any output:
it is a `SecretStr`, shown as `**********` by `repr`, JSON and logs.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from muse_stream import environment
from muse_stream.config import kafka_properties
from muse_stream.config.kafka_properties import Property
from muse_stream.config.librdkafka import canonical
from muse_stream.config.secret_settings import EndpointUrl, ExistingFile, refuse_both, secret
from muse_stream.errors import ConfigError, Problem

PREFIX = environment.KAFKA

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]
WITH_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

PROPERTIES: Mapping[str, str] = {
    "bootstrap": "bootstrap.servers",
    "client_id": "client.id",
    "security_protocol": "security.protocol",
    "sasl_mechanism": "sasl.mechanism",
    "sasl_username": "sasl.username",
    "sasl_password": "sasl.password",
    "sasl_oauthbearer_token_endpoint_url": "sasl.oauthbearer.token.endpoint.url",
    "sasl_oauthbearer_client_id": "sasl.oauthbearer.client.id",
    "sasl_oauthbearer_client_secret": "sasl.oauthbearer.client.secret",
    "sasl_oauthbearer_scope": "sasl.oauthbearer.scope",
    "ssl_ca_location": "ssl.ca.location",
    "ssl_certificate_location": "ssl.certificate.location",
    "ssl_key_location": "ssl.key.location",
    "ssl_key_password": "ssl.key.password",
}
"""Field -> librdkafka's name of it."""
_FIELDS = {canonical(name): field for field, name in PROPERTIES.items()}


class KafkaSettings(BaseModel):
    """How to reach the cluster. `from_environment` reads it; the plain constructor takes nothing from outside.

    Raises `ConfigError` only through `from_environment`; the plain constructor raises pydantic's `ValidationError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    bootstrap: str = "localhost:9092"
    """Comma-separated `host:port`."""
    client_id: str = Field(default="muse-stream", min_length=1)
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_password_file: ExistingFile | None = None
    """Read whenever a client is made; a trailing line end is dropped."""
    sasl_oauthbearer_token_endpoint_url: EndpointUrl | None = None
    sasl_oauthbearer_client_id: str | None = None
    sasl_oauthbearer_client_secret: SecretStr | None = None
    sasl_oauthbearer_client_secret_file: ExistingFile | None = None
    """Read whenever a client is made; a trailing line end is dropped."""
    sasl_oauthbearer_scope: str | None = None
    ssl_ca_location: ExistingFile | None = None
    ssl_certificate_location: ExistingFile | None = None
    ssl_key_location: ExistingFile | None = None
    ssl_key_password: SecretStr | None = None
    properties_file: Path | None = None
    properties: tuple[Property, ...] = ()
    """What the file gives beyond the fields above; read once, with the environment."""

    @classmethod
    def from_environment(cls) -> "KafkaSettings":
        """Read the environment and the file; raises `ConfigError` with every mistake, named by where it is."""
        found = environment.given()
        given = {field: found[name] for field, name in VARIABLES.items() if name in found}
        file = given.get("properties_file")
        lines, problems = kafka_properties.read(Path(file)) if file is not None else ([], [])
        problems += _disagreements(given, lines)
        taken = {field: line for line in lines if (field := _taken(line)) and f"{field}_file" not in given}
        values = {field: line.value.get_secret_value() for field, line in taken.items()} | given
        try:
            settings = cls.model_validate(values | {"properties": [x for x in lines if x not in taken.values()]})
        except ValidationError as error:
            problems += [_problem(item["loc"], item["msg"], taken) for item in error.errors()]
        else:
            problems += [] if problems else _without_effect(settings, given, lines)
        if problems:
            raise ConfigError(problems)
        return settings

    @field_validator("security_protocol", "sasl_mechanism", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("bootstrap")
    @classmethod
    def _servers(cls, value: str) -> str:
        servers = [server.strip() for server in value.split(",")]
        for server in servers:
            if "@" in server:  # not repeated: what stands before it may be a password
                raise ValueError(f"put no user into it; that is {PREFIX}SASL_USERNAME and {PREFIX}SASL_PASSWORD")
            if "://" in server:  # librdkafka would look the scheme up as a host
                meant = f"; the protocol is {PREFIX}SECURITY_PROTOCOL"
                raise ValueError(f"'{server}' is a URL, not host:port{meant}")
            host, colon, port = server.rpartition(":")
            if ":" in host and not (host.startswith("[") and host.endswith("]")):
                raise ValueError(f"'{server}' is not host:port; an IPv6 address stands in brackets: [::1]:9092")
            if not (host and colon and port.isdecimal() and 0 < int(port) < 1 << 16):
                raise ValueError(f"'{server}' is not host:port")
        return ",".join(servers)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        refuse_both(self, ("sasl_password", "sasl_oauthbearer_client_secret"), VARIABLES)
        if not self.security_protocol.startswith("SASL"):
            return self
        if self.sasl_mechanism is None:
            raise ValueError(f"{PREFIX}SASL_MECHANISM is needed with {self.security_protocol}")
        if self.sasl_mechanism in WITH_PASSWORD and (not self.sasl_username or self.password() is None):
            wanted = f"{PREFIX}SASL_USERNAME and {PREFIX}SASL_PASSWORD (or {PREFIX}SASL_PASSWORD_FILE)"
            raise ValueError(f"{wanted} are needed with {self.sasl_mechanism}")
        if self.sasl_mechanism == "OAUTHBEARER" and not self._tokens():
            oauth = f"{PREFIX}SASL_OAUTHBEARER_"
            wanted = f"{oauth}TOKEN_ENDPOINT_URL, {oauth}CLIENT_ID and {oauth}CLIENT_SECRET (or _CLIENT_SECRET_FILE)"
            raise ValueError(f"{wanted} are needed with OAUTHBEARER, or another way to a token in the properties file")
        return self

    def connection(self) -> dict[str, str]:
        """Return what is given by fields, under librdkafka's names. Holds secrets: never print it."""
        found = {name: getattr(self, field) for field, name in PROPERTIES.items()}
        found |= {"sasl.password": self.password(), "sasl.oauthbearer.client.secret": self.client_secret()}
        if self.sasl_oauthbearer_token_endpoint_url is not None:
            found["sasl.oauthbearer.method"] = "oidc"
            if all(line.name != "https.ca.pem" for line in self.properties):  # one excludes the other
                found["https.ca.location"] = kafka_properties.machine_certificates()
        return {
            name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            for name, value in found.items()
            if value is not None
        }

    def password(self) -> SecretStr | None:
        """The SASL password: the variable, else the content of the file; None when neither is given."""
        return secret(self, "sasl_password", VARIABLES)

    def client_secret(self) -> SecretStr | None:
        """The client secret for the token endpoint, like the password."""
        return secret(self, "sasl_oauthbearer_client_secret", VARIABLES)

    def _tokens(self) -> bool:
        """Whether there is a way to a token; of the ways that only the file knows, librdkafka checks the rest."""
        given = {line.name: line.value.get_secret_value() for line in self.properties}
        if given.get("sasl.oauthbearer.method") == "oidc" or "enable.sasl.oauthbearer.unsecure.jwt" in given:
            return True
        wanted = (self.sasl_oauthbearer_token_endpoint_url, self.sasl_oauthbearer_client_id, self.client_secret())
        return all(wanted)


VARIABLES: Mapping[str, str] = {
    field: PREFIX + ("BOOTSTRAP_SERVERS" if field == "bootstrap" else field.upper())
    for field in KafkaSettings.model_fields
    if field != "properties"
}
"""Field -> the variable that gives it."""


def _field(line: Property) -> str:
    """Return the field whose variable gives the same property, or nothing."""
    return _FIELDS.get(canonical(line.name), "")


def _taken(line: Property) -> str:
    """Return the field that a line fills. Not those of certificates: librdkafka takes folders there as well."""
    return "" if (field := _field(line)).endswith("_location") else field


def _disagreements(given: Mapping[str, str], lines: Sequence[Property]) -> Iterator[Problem]:
    """Yield what a variable and the file both give, and not alike; no value is shown."""
    for line in lines:
        field = _field(line)
        if field in given and not _alike(field, given[field], line.value.get_secret_value()):
            yield line.problem(f"differs from {VARIABLES[field]}", "keep one of them")
        elif f"{field}_file" in given:
            yield line.problem(f"is given by {VARIABLES[field]}_FILE as well", "keep one of them")


def _alike(field: str, one: str, other: str) -> bool:
    if field == "bootstrap":
        return [server.strip() for server in one.split(",")] == [server.strip() for server in other.split(",")]
    if field in ("security_protocol", "sasl_mechanism"):
        return one.upper() == other.upper()
    return one == other


def _without_effect(settings: KafkaSettings, given: Mapping[str, str], lines: Sequence[Property]) -> Iterator[Problem]:
    """Yield what would be ignored: logins and certificates, where the security protocol uses none."""
    protocol = settings.security_protocol
    message = f"has no effect while the security protocol is {protocol}"
    for part, other in (("SASL", "SASL_SSL"), ("SSL", "SSL or SASL_SSL")):
        if part in protocol.split("_"):
            continue
        hint = f"set {PREFIX}SECURITY_PROTOCOL, or security.protocol in the file, to {other}"
        for field in given:
            if field.startswith(f"{part.lower()}_"):
                yield Problem(VARIABLES[field], message, hint)
        for line in lines:
            if line.name.startswith(f"{part.lower()}."):
                yield line.problem(message, hint)


def _problem(location: tuple[int | str, ...], message: str, taken: Mapping[str, Property]) -> Problem:
    message = message.removeprefix("Value error, ")
    if location and (line := taken.get(str(location[0]))):
        return line.problem(message)
    name = VARIABLES[str(location[0])] if location else f"{PREFIX}*"
    return Problem(name, message, f"set it in the environment, or in the file that {PREFIX}PROPERTIES_FILE names")
