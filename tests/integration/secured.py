"""A broker that asks who you are, and the permissions that `muse-stream acl` promises to be enough.

`Secured` is a running broker with SASL and an authorizer, its principals' connections and environments, grants and
their withdrawal. Permissions are written down in muse_stream/kafka/permissions.py alone; every listener asks for a
password, and only the administrator may do what nobody was granted.
"""

import io
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from confluent_kafka.admin import (  # type: ignore[attr-defined] # public names that the stubs forget to export
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from muse_stream.cli.main import main
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_kafka import LocalKafka
from tests.certificates import make_certificates
from tests.patience import until

SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"
LISTENERS = ("client", "internal", "controller")
REAUTH_MS = 3_000
"""How often users of SCRAM are asked for their password again; those of PLAIN are asked once a connection."""


def bindings(configuration: Path, *options: str) -> Iterator[AclBinding]:
    """Yield what `muse-stream acl` prints."""
    done = in_process({}, "acl", str(configuration), "--json", *options)
    assert done.returncode == 0, done.stderr
    for row in json.loads(done.stdout):
        for operation in row["operations"]:
            principal = row["principal"].removeprefix("User:")
            yield binding(principal, row["resource"], row["pattern"], row["name"], operation)


def binding(
    principal: str, resource: str, pattern: str, name: str, operation: str, permission: str = "ALLOW"
) -> AclBinding:
    """Return one grant (or denial), its parts as the table writes them."""
    return AclBinding(
        ResourceType[resource.upper().replace(" ", "_")],
        name,
        ResourcePatternType[pattern.upper()],
        f"User:{principal}",
        "*",
        AclOperation[operation],
        AclPermissionType[permission],
    )


def in_process(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program with these variables, without the cost of a process."""
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        code = main(list(arguments))
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


class Secured:
    """The broker and its principals; `passwords` has everybody's, one nobody would write by accident."""

    def __init__(self, folder: Path, principals: Sequence[str]) -> None:
        self.folder = folder
        self.passwords = {name: f"hush-{secrets.token_hex(12)}" for name in ("admin", *principals)}
        users = " ".join(f'user_{name}="{password}"' for name, password in self.passwords.items())
        login = f'username="admin" password="{self.passwords["admin"]}" {users}'
        module = f"org.apache.kafka.common.security.plain.PlainLoginModule required {login};"
        tls = folder / "tls"
        tls.mkdir()
        make_certificates(tls)
        self.ca, both = tls / "ca.pem", tls / "both.pem"
        both.write_text((tls / "server.key").read_text() + (tls / "server.pem").read_text())
        self._kafka = LocalKafka(
            PLACES,
            properties={
                "listener.security.protocol.map": "CLIENT:SASL_SSL,INTERNAL:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
                "listener.name.client.ssl.keystore.type": "PEM",
                "listener.name.client.ssl.keystore.location": str(both),
                "sasl.enabled.mechanisms": "PLAIN",
                "listener.name.client.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
                "listener.name.client.scram-sha-512.sasl.jaas.config": f"{SCRAM} required;",
                "listener.name.client.scram-sha-512.connections.max.reauth.ms": str(REAUTH_MS),
                "sasl.mechanism.inter.broker.protocol": "PLAIN",
                "sasl.mechanism.controller.protocol": "PLAIN",
                **{f"listener.name.{name}.plain.sasl.jaas.config": module for name in LISTENERS},
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:admin",
                "allow.everyone.if.no.acl.found": "false",
            },
            connection=self._login("admin"),
        )

    def __enter__(self) -> "Secured":
        self._kafka.start()
        self.admin = AdminClient(self.connection("admin"))
        return self

    def __exit__(self, *_: object) -> None:
        self._kafka.close()

    @property
    def bootstrap(self) -> str:
        return self._kafka.bootstrap

    def connection(self, principal: str) -> dict[str, Any]:
        """librdkafka's settings for one principal."""
        return {"bootstrap.servers": self.bootstrap, **self._login(principal)}

    def _login(self, principal: str) -> dict[str, Any]:
        return {
            "log_level": 0,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": str(self.ca),
            "sasl.mechanism": "PLAIN",
            "sasl.username": principal,
            "sasl.password": self.passwords[principal],
        }

    def environment(self, principal: str, password: str | None = None) -> dict[str, str]:
        """The variables of one principal's process; its password is in a file."""
        file = self.folder / f"{principal}-{secrets.token_hex(4)}.password"
        file.write_text(f"{password or self.passwords[principal]}\n", encoding="utf-8")
        return {
            "MUSE_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "MUSE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "MUSE_KAFKA_SSL_CA_LOCATION": str(self.ca),
            "MUSE_KAFKA_SASL_MECHANISM": "PLAIN",
            "MUSE_KAFKA_SASL_USERNAME": principal,
            "MUSE_KAFKA_SASL_PASSWORD_FILE": str(file),
        }

    def scram(self, user: str, password: str) -> None:
        """Give a user of SCRAM a password, in place of the one it has."""
        mechanism = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        altered = UserScramCredentialUpsertion(user, mechanism, password.encode())
        for answer in self.admin.alter_user_scram_credentials([altered]).values():
            answer.result(timeout=60)

    def grant(self, *wanted: AclBinding) -> None:
        """Grant (or deny); returns when the broker knows, which is a moment after the controller has noted it."""
        for answer in self.admin.create_acls(list(wanted)).values():
            answer.result(timeout=60)
        until(lambda: all(one in self._known() for one in wanted), 20, lambda: f"not known: {wanted}")

    def withdraw(self, *unwanted: AclBinding) -> None:
        """Take back what was granted; fails when it was not. Returns when the broker knows."""
        filters = [
            AclBindingFilter(
                one.restype,
                one.name,
                one.resource_pattern_type,
                one.principal,
                one.host,
                one.operation,
                one.permission_type,
            )
            for one in unwanted
        ]
        for answer in self.admin.delete_acls(filters).values():
            assert len(answer.result(timeout=60)) == 1
        until(lambda: not any(one in self._known() for one in unwanted), 20, lambda: f"known still: {unwanted}")

    def _known(self) -> list[AclBinding]:
        nobody: Any = None  # in particular: the stubs want a name
        everything = AclBindingFilter(
            ResourceType.ANY, nobody, ResourcePatternType.ANY, nobody, nobody, AclOperation.ANY, AclPermissionType.ANY
        )
        found: list[AclBinding] = self.admin.describe_acls(everything).result(timeout=60)
        return found
