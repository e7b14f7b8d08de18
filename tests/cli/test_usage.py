"""Wrong usage is told as such, with exit code 2, whether or not Kafka can be reached."""

from pathlib import Path

import pytest

from muse_stream.cli.main import REFUSED, main

EXAMPLE = str(Path(__file__).parents[2] / "deploy" / "config" / "muse.yaml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["offsets", "set", EXAMPLE, "acme", "--to", "yesterday"], "'yesterday' is neither a place nor a time"),
        (["offsets", "copy", EXAMPLE, "acme", "--from-lane", "a", "--to-lane", "a"], "is the lane that is copied from"),
    ],
)
def test_offsets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.setenv("MUSE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    assert main(words) == REFUSED
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--look-every", "--store-every"])
def test_only_the_role_that_counts_has_times_of_its_own(capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(["run", "--role", "live", "--config", EXAMPLE, option, "5"]) == REFUSED
    error = capsys.readouterr().err
    assert "only the role calibrate has such an option" in error
    assert option in error
