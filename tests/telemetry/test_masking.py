"""No secret gets into a log line, whatever door it takes."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from muse_stream.telemetry.logs import configure, logger
from muse_stream.telemetry.masking import MASK, mask, text

SECRET = "hunter2-Xq9"


@pytest.mark.parametrize(
    "event",
    [
        {"password": SECRET},
        {"sasl.password": SECRET},
        {"MUSE_KAFKA_SASL_PASSWORD": SECRET},
        {"token": SECRET},
        {"Authorization": f"Bearer {SECRET}"},
        {"config": {"ssl.key.password": SECRET, "nested": [{"api_key": SECRET}]}},
        {"value": SecretStr(SECRET)},
        {"values": [SecretStr(SECRET)]},
        {"url": f"redis://user:{SECRET}@host:6379/0"},
        {"event": f"cannot connect with sasl.password={SECRET} to broker"},
        {"event": f"{{'sasl.password': '{SECRET}', 'client.id': 'x'}}"},
        {"exception": f'Traceback...\n  raise ValueError("password: {SECRET}")'},
    ],
)
def test_masked(event: dict[str, Any]) -> None:
    assert SECRET not in json.dumps(mask(None, "info", event), default=str)


def test_the_rest_stays_readable() -> None:
    event = {"event": "batch_committed", "events": 812, "topic": "muse.events.acme", "token": None, "at": "10:30:00"}
    assert mask(None, "info", event) == event
    assert text("http://127.0.0.1:9090/ready") == "http://127.0.0.1:9090/ready"


@given(st.text(alphabet=st.characters(categories=["L", "N"]), min_size=6), st.sampled_from(["password", "secret"]))
def test_any_assigned_secret_is_masked(secret: str, name: str) -> None:
    assert text(f"{name}={secret} next") == f"{name}={MASK} next"


def test_exception_text_is_masked_in_the_line() -> None:
    stream = io.StringIO()
    configure(stream=stream, human=False)
    try:
        raise RuntimeError(f"sasl.password={SECRET}")
    except RuntimeError:
        logger("test").exception("broker refused us")
    line = json.loads(stream.getvalue())
    assert "RuntimeError" in line["exception"]
    assert SECRET not in stream.getvalue()
