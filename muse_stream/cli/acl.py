"""`acl`: what each role needs on Kafka."""

from enum import StrEnum
from typing import Annotated

import typer

from muse_stream.cli.options import Config, Json
from muse_stream.cli.output import show_json, show_text
from muse_stream.cli.store_option import StoreOption


class Form(StrEnum):
    """In whose words."""

    KAFKA_ACLS = "kafka-acls"
    STRIMZI = "strimzi"
    JSON = "json"


def acl(
    config: Config,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="live, shadow, calibrate, producer, consumer, analyst, reporter, promoter, watcher, verifier, "
            "replayer, doctor, operator or mover; may be given several times. Default: all."
        ),
    ] = None,
    lane: Annotated[list[str] | None, typer.Option(help="Only this lane; may be given several times.")] = None,
    tenant: Annotated[list[str] | None, typer.Option(help="Only this tenant; may be given several times.")] = None,
    principal: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who gets it all, such as scorer or CN=scorer,O=bank. Default: principals named as the roles.",
        ),
    ] = None,
    prefixed: Annotated[
        bool, typer.Option("--prefixed", help="Grant topics by what their names begin with: for tenants to come, too.")
    ] = False,
    moves: Annotated[
        bool, typer.Option("--moves", help="Workers may look at other lanes' groups: for tenants that move.")
    ] = False,
    form: Annotated[Form, typer.Option("--format", help="Commands of Kafka's tool, a Strimzi KafkaUser, or JSON.")] = (
        Form.KAFKA_ACLS
    ),
    cluster: Annotated[str, typer.Option(help="Name of the Kafka resource, for --format strimzi.")] = "kafka",
    as_json: Json = False,
    _store: StoreOption = None,
) -> None:
    """Print what each role, and each command that a person runs, needs to be granted on Kafka, and nothing more.

    Asks no broker and grants nothing. Topics are named one by one, or by prefixes with --prefixed; a prefix that would
    take in topics of another kind is not used. docs/kafka-security.md says which command belongs to which role.

    Examples:

    ```
    muse-stream acl muse.yaml --role live --role shadow
    muse-stream acl muse.yaml --role live --lane main --principal CN=scorer,O=bank
    muse-stream acl /var/lib/muse/store --format strimzi --cluster events --prefixed
    ```
    """
    from muse_stream.commands import acl as command  # noqa: PLC0415
    from muse_stream.commands.configuration import open_configuration  # noqa: PLC0415

    asked = command.Asked(role or (), lane or (), tenant or (), principal, prefixed, moves)
    found = command.needed_permissions(open_configuration(config), asked)
    if as_json or form is Form.JSON:
        show_json(list(command.rows(found)))
        return
    lines = command.strimzi(found, cluster) if form is Form.STRIMZI else command.kafka_acls(found)
    for line in lines:
        show_text(line)
