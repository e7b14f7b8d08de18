"""ONNX artifacts: verify, check, load, warm up, answer (`onnx` and `onnxruntime` are imported nowhere else).

What runs is what was hashed and checked, and the same row always gets the same bits. `load_model` takes a file pinned
by its sha256 and what the configuration says of it, and returns an object that satisfies `scoring.Model`.

    verified    the bytes of a pinned file            artifact    what the file says of itself; what is refused unseen
    signature   the binding: names, widths, types     labels      which class each column stands for
    answer      from an output to a probability       session     the runtime: batches in, probabilities out
    batch_axis  does a row depend on its neighbours?  onnx_nodes  a file's operators and constants as values
    warmup      first answers, and a look at them     constants   the numbers of a file that probe rows stand around
    influence   do rows meet in a tensor inside?      golden      the author's own answers
    backend     onnxruntime alone, or native code for the trees (compiled/)
    load        all of it, and the cache
"""

from muse_stream.models.artifact import Artifact, Port, describe
from muse_stream.models.golden import Agreement, Golden, agreement, check_golden, read_golden
from muse_stream.models.load import ModelCache, load_model
from muse_stream.models.session import Backend, OnnxModel
from muse_stream.models.signature import Signature
from muse_stream.models.verified import read_verified

__all__ = [
    "Agreement",
    "Artifact",
    "Backend",
    "Golden",
    "ModelCache",
    "OnnxModel",
    "Port",
    "Signature",
    "agreement",
    "check_golden",
    "describe",
    "load_model",
    "read_golden",
    "read_verified",
]
