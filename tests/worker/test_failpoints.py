"""Fail points: nothing without the variable, refusal of what cannot be meant, and the real signal."""

import os
import signal

import pytest

from muse_stream.worker import failpoints


def test_does_nothing_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    assert failpoints.from_environment() is failpoints.nothing
    failpoints.nothing("after-poll")


@pytest.mark.parametrize(
    "text",
    ["after-pol=kill", "after-poll=die", "after-poll", "=kill", "after-poll=kill:often", "after-poll=kill,", "a=b"],
)
def test_refuses_what_is_misspelt(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, text)
    with pytest.raises(ValueError, match=r".+"):
        failpoints.from_environment()


def test_strikes_where_and_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    struck: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: struck.append((pid, number)))
    monkeypatch.setenv(failpoints.VARIABLE, "after-flush=kill,before-commit=stop:1,after-commit=kill:0")
    strike = failpoints.from_environment()
    for step in failpoints.STEPS:
        strike(step)
    assert struck == [(os.getpid(), signal.SIGKILL), (os.getpid(), signal.SIGSTOP)]
