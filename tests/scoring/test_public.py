"""The public names, and what importing them costs."""

import subprocess
import sys

import pytest

import muse_stream

LIGHT = """
import sys
import muse_stream
loaded = {name.partition('.')[0] for name in sys.modules}
assert not loaded & {'numpy', 'pydantic', 'pyarrow', 'onnxruntime', 'confluent_kafka'}, loaded
from muse_stream import QuantileMap, Reference, posterior_correction
loaded = {name.partition('.')[0] for name in sys.modules}
assert 'numpy' in loaded
assert not loaded & {'pydantic', 'ruamel', 'pyarrow', 'onnxruntime', 'confluent_kafka', 'fastavro', 'pyruhvro'}, loaded
import muse_stream.scoring.snapshot
loaded = {name.partition('.')[0] for name in sys.modules}
assert not loaded & {'pyarrow', 'onnxruntime', 'confluent_kafka', 'fastavro', 'pyruhvro', 'redis'}, loaded
"""


def test_importing_the_package_imports_no_vendor() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["QuantileMap", "Reference", "Snapshot", "posterior_correction"])
def test_public_names_are_documented_and_listed(name: str) -> None:
    assert getattr(muse_stream, name).__doc__
    assert name in muse_stream.__all__
    assert name in dir(muse_stream)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'pickle_everything'"):
        muse_stream.pickle_everything  # noqa: B018
