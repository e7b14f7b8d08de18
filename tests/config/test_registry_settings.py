"""How a Schema Registry is reached: from the environment, every mistake by its variable, no secret shown."""

import os
from pathlib import Path

import pytest

from muse_stream.config import RegistrySettings
from muse_stream.errors import ConfigError

OAUTH = {
    "OAUTH_TOKEN_ENDPOINT_URL": "https://sso/token",
    "OAUTH_CLIENT_ID": "muse",
    "OAUTH_CLIENT_SECRET": "hush-4711",
}


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MUSE_")]:
        monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **given: str) -> RegistrySettings | None:
    for name, value in given.items():
        monkeypatch.setenv(f"MUSE_REGISTRY_{name}", value)
    return RegistrySettings.from_environment()


def test_no_variable_is_no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch) is None


def test_a_password_comes_from_its_file_each_time_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("hush-4711\n")
    settings = read(monkeypatch, URL="https://a:8081/, https://b:8081", USERNAME="muse", PASSWORD_FILE=str(file))
    assert settings is not None
    assert settings.connection() == {
        "url": "https://a:8081,https://b:8081",
        "basic.auth.user.info": "muse:hush-4711",
    }
    file.write_text("hush-4712")
    assert settings.connection()["basic.auth.user.info"] == "muse:hush-4712"
    monkeypatch.delenv("MUSE_REGISTRY_PASSWORD_FILE")
    assert "hush" not in repr(read(monkeypatch, PASSWORD="hush-4711"))


def test_oauth_is_what_confluents_client_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, URL="https://a", OAUTH_SCOPE="registry", **OAUTH)
    assert settings is not None
    assert settings.connection() == {
        "url": "https://a",
        "bearer.auth.credentials.source": "OAUTHBEARER",
        "bearer.auth.issuer.endpoint.url": "https://sso/token",
        "bearer.auth.client.id": "muse",
        "bearer.auth.client.secret": "hush-4711",
        "bearer.auth.scope": "registry",
        "bearer.auth.logical.cluster": "",
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"USERNAME": "muse"}, "MUSE_REGISTRY_USERNAME: has no effect while MUSE_REGISTRY_URL is not set"),
        ({"URL": "registry:8081"}, "MUSE_REGISTRY_URL: is not a URL"),
        ({"URL": "https://u:hush-4711@a"}, "put no user into it; that is MUSE_REGISTRY_USERNAME"),
        ({"URL": "https://a", "USERNAME": "muse"}, "belong together"),
        ({"URL": "https://a", "USERNAME": "m", "PASSWORD": "hush-4711", "PASSWORD_FILE": __file__}, "give one of"),
        ({"URL": "https://a", "OAUTH_CLIENT_ID": "m"}, "MUSE_REGISTRY_OAUTH_TOKEN_ENDPOINT_URL is needed"),
        ({"URL": "https://a", "OAUTH_SCOPE": "m"}, "have no effect without MUSE_REGISTRY_OAUTH_TOKEN_ENDPOINT_URL"),
        ({"URL": "https://a", "USERNAME": "m", "PASSWORD": "hush-4711", **OAUTH}, "not both"),
        ({"URL": "https://a", "SSL_CA_LOCATION": "/nowhere/ca.pem"}, "MUSE_REGISTRY_SSL_CA_LOCATION: no such file"),
        ({"URL": "http://a", "SSL_CA_LOCATION": __file__}, "begins with https://"),
        ({"URL": "https://a", "SSL_KEY_LOCATION": __file__}, "MUSE_REGISTRY_SSL_CERTIFICATE_LOCATION is needed"),
        ({"URL": "https://a", "PASSWRD": "hush-4711"}, "did you mean MUSE_REGISTRY_PASSWORD?"),
    ],
)
def test_a_mistake_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(monkeypatch, **given)
    assert said in str(error.value)
    assert "hush" not in str(error.value)
