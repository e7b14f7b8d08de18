"""Tree ensembles as native code: the answers of onnxruntime, in every bit, several times faster.

    graph       cuts a file at its tree ensemble: before, trees, after
    ensemble    a TreeEnsemble node of an ONNX file as plain data, or why it stays with onnxruntime
    code        that data as LLVM's text form
    native      that text as object code, and object code as a function (the one module that imports `llvmlite`)
    trees       answers a table by that function
    optimiser   makes better object code of what is busy, in the background
    code_cache  keeps it for the next process

Importing this loads no compiler; `trees` does. What is compiled and what is not, and why the bits are the same, is
written in docs/compiled-trees.md.
"""

from muse_stream.models.compiled.ensemble import Branch, Ensemble, NotCompiledError, read_ensemble
from muse_stream.models.compiled.graph import Cut, cut

__all__ = ["Branch", "Cut", "Ensemble", "NotCompiledError", "cut", "read_ensemble"]
