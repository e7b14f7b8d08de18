"""What comes from the environment: how Kafka is reached, and nothing else.

In: `MUSE_KAFKA_*` variables (and the password file one of them names). Out: a frozen `KafkaSettings`.
Law: a secret lives in the environment or in a file, never in the configuration document, and never in any output:
it is a `SecretStr`, shown as `**********` by `repr`, JSON and logs. What is wrong is said as `ConfigError`, all at
once, each problem named by its variable.

librdkafka's own names stand in `stream/client.py` only; this module knows no vendor.
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from muse_stream.errors import ConfigError, Problem

PREFIX = "MUSE_KAFKA_"

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"]
WITH_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class KafkaSettings(BaseSettings):
    """How to reach the cluster; every field is the variable `MUSE_KAFKA_<NAME>`.

    Raises `ConfigError` only through `from_environment`; the plain constructor raises pydantic's `ValidationError`.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", hide_input_in_errors=True)

    bootstrap: str = "localhost:9092"
    """Comma-separated `host:port`."""
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_password_file: Path | None = None
    """Read once, when the settings are made; a trailing line end is dropped."""
    ssl_ca_location: Path | None = None
    ssl_certificate_location: Path | None = None
    ssl_key_location: Path | None = None
    ssl_key_password: SecretStr | None = None
    client_id: str = Field(default="muse-stream", min_length=1)

    @classmethod
    def from_environment(cls) -> "KafkaSettings":
        """Read the environment; raises `ConfigError` with every mistake, named by its variable."""
        try:
            return cls()
        except ValidationError as error:
            raise ConfigError([_problem(item["loc"], item["msg"]) for item in error.errors()]) from None

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
                raise ValueError(f"no user stands in it; that is {PREFIX}SASL_USERNAME and {PREFIX}SASL_PASSWORD")
            host, colon, port = server.rpartition(":")
            if not (host and colon and port.isdecimal() and 0 < int(port) < 1 << 16):
                raise ValueError(f"'{server}' is not host:port")
        return ",".join(servers)

    @field_validator("ssl_ca_location", "ssl_certificate_location", "ssl_key_location", "sasl_password_file")
    @classmethod
    def _exists(cls, value: Path | None) -> Path | None:
        # librdkafka says of a missing file only that "the client could not be created"
        if value is not None and not value.is_file():
            raise ValueError("is no file" if value.exists() else "no such file")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security_protocol.startswith("SASL"):
            if self.sasl_mechanism is None:
                raise ValueError(f"{PREFIX}SASL_MECHANISM is needed with {self.security_protocol}")
            if self.sasl_mechanism in WITH_PASSWORD and (not self.sasl_username or self.password() is None):
                wanted = f"{PREFIX}SASL_USERNAME and {PREFIX}SASL_PASSWORD (or {PREFIX}SASL_PASSWORD_FILE)"
                raise ValueError(f"{wanted} are needed with {self.sasl_mechanism}")
        return self

    def password(self) -> SecretStr | None:
        """The SASL password: the variable, else the content of the file; None when neither is given."""
        if self.sasl_password is not None:
            return self.sasl_password
        if self.sasl_password_file is None:
            return None
        try:
            return SecretStr(self.sasl_password_file.read_text(encoding="utf-8").rstrip("\r\n"))
        except (OSError, UnicodeDecodeError) as error:
            what = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ValueError(f"{PREFIX}SASL_PASSWORD_FILE cannot be read: {what}") from None


def _problem(location: tuple[int | str, ...], message: str) -> Problem:
    name = PREFIX + str(location[0]).upper() if location else PREFIX + "*"
    return Problem(path=name, message=message.removeprefix("Value error, "), hint="set it in the environment")
