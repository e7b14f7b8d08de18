"""How a Schema Registry is reached: `MUSE_REGISTRY_*` variables.

The environment gives a frozen `RegistrySettings`, or None where no registry is named. What is wrong is a `ConfigError`,
all at once, each problem named by its variable.

Invariant: a secret lives in the environment or in a file, and never in any output. A file is read whenever a client is
made, so that a secret can be changed while a worker runs.
"""

from collections.abc import Mapping
from typing import Self

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, field_validator, model_validator

from muse_stream import environment
from muse_stream.config import kafka_properties
from muse_stream.config.secret_settings import EndpointUrl, ExistingFile, refuse_both, secret
from muse_stream.errors import ConfigError, Problem

PREFIX = "MUSE_REGISTRY_"
SECRETS = ("password", "oauth_client_secret", "ssl_key_password")
OAUTH = ("oauth_token_endpoint_url", "oauth_client_id", "oauth_client_secret")


class RegistrySettings(BaseModel):
    """How to reach the registry; `from_environment` reads it."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)

    url: str
    """Of one registry; several of its nodes separated by commas."""
    username: str | None = None
    password: SecretStr | None = None
    password_file: ExistingFile | None = None
    oauth_token_endpoint_url: EndpointUrl | None = None
    oauth_client_id: str | None = None
    oauth_client_secret: SecretStr | None = None
    oauth_client_secret_file: ExistingFile | None = None
    oauth_scope: str | None = None
    oauth_logical_cluster: str | None = None
    oauth_identity_pool: str | None = None
    ssl_ca_location: ExistingFile | None = None
    ssl_certificate_location: ExistingFile | None = None
    ssl_key_location: ExistingFile | None = None
    ssl_key_password: SecretStr | None = None
    ssl_key_password_file: ExistingFile | None = None

    @classmethod
    def from_environment(cls) -> "RegistrySettings | None":
        """Read the environment; None where it names no registry. Raises `ConfigError` with every mistake."""
        found = environment.given()
        given = {field: found[name] for field, name in VARIABLES.items() if name in found}
        if not given:
            return None
        if "url" not in given:
            first = VARIABLES[next(iter(given))]
            message = f"has no effect while {PREFIX}URL is not set"
            raise ConfigError([Problem(first, message, f"set {PREFIX}URL, for example https://registry:8081")])
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigError([_problem(item["loc"], item["msg"]) for item in error.errors()]) from None

    @field_validator("url")
    @classmethod
    def _urls(cls, value: str) -> str:
        urls = [url.strip().rstrip("/") for url in value.split(",")]
        for url in urls:
            if "@" in url:  # not repeated: what stands before it may be a password
                raise ValueError(f"put no user into it; that is {PREFIX}USERNAME and {PREFIX}PASSWORD")
            if wrong := kafka_properties.url_problem(url):
                raise ValueError(wrong)
        return ",".join(urls)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        refuse_both(self, SECRETS, VARIABLES)
        if (self.username is None) != (self._secret("password") is None):
            raise ValueError(f"{PREFIX}USERNAME and {PREFIX}PASSWORD (or {PREFIX}PASSWORD_FILE) belong together")
        parts = [name for name in OAUTH if getattr(self, name) is None and getattr(self, f"{name}_file", None) is None]
        if len(parts) < len(OAUTH) and parts:
            raise ValueError(f"{VARIABLES[parts[0]]} is needed with the other {PREFIX}OAUTH_ variables")
        if len(parts) == len(OAUTH) and (self.oauth_scope or self.oauth_logical_cluster or self.oauth_identity_pool):
            raise ValueError(f"{PREFIX}OAUTH_ variables have no effect without {VARIABLES[OAUTH[0]]}")
        if self.username is not None and not parts:
            raise ValueError(f"give a user name or the {PREFIX}OAUTH_ variables, not both")
        if self.ssl_key_location is not None and self.ssl_certificate_location is None:
            raise ValueError(f"{PREFIX}SSL_CERTIFICATE_LOCATION is needed with {PREFIX}SSL_KEY_LOCATION")
        secured = any(getattr(self, name) is not None for name in type(self).model_fields if name.startswith("ssl_"))
        if secured and not all(url.startswith("https://") for url in self.url.split(",")):
            raise ValueError(f"{PREFIX}SSL_ variables have no effect with http://; {PREFIX}URL begins with https://")
        return self

    def connection(self) -> dict[str, str]:
        """Return the settings under the names of Confluent's client. Holds secrets: never print it.

        Raises ValueError where a file cannot be read.
        """
        found = {
            "url": self.url,
            "ssl.ca.location": self.ssl_ca_location,
            "ssl.certificate.location": self.ssl_certificate_location,
            "ssl.key.location": self.ssl_key_location,
            "ssl.key.password": self._secret("ssl_key_password"),
        }
        if self.username is not None:
            found["basic.auth.user.info"] = f"{self.username}:{self._secret('password')}"
        if self.oauth_token_endpoint_url is not None:
            found |= {
                "bearer.auth.credentials.source": "OAUTHBEARER",
                "bearer.auth.issuer.endpoint.url": self.oauth_token_endpoint_url,
                "bearer.auth.client.id": self.oauth_client_id,
                "bearer.auth.client.secret": self._secret("oauth_client_secret"),
                "bearer.auth.scope": self.oauth_scope or "",
                # Confluent's client asks for one; only Confluent Cloud looks at it
                "bearer.auth.logical.cluster": self.oauth_logical_cluster or "",
                "bearer.auth.identity.pool.id": self.oauth_identity_pool,
            }
        return {name: str(value) for name, value in found.items() if value is not None}

    def _secret(self, field: str) -> str | None:
        found = secret(self, field, VARIABLES)
        return None if found is None else found.get_secret_value()


VARIABLES: Mapping[str, str] = {field: PREFIX + field.upper() for field in RegistrySettings.model_fields}
"""Field -> the variable that gives it."""


def _problem(location: tuple[int | str, ...], message: str) -> Problem:
    name = VARIABLES[str(location[0])] if location else f"{PREFIX}*"
    return Problem(name, message.removeprefix("Value error, "), "set it in the environment")
