"""Tree ensembles as native code: the answers of onnxruntime, in every bit, several times faster.

    ensemble    a TreeEnsemble node of an ONNX file as plain data, or why it stays with onnxruntime
    code        that data as LLVM's text form
    native      that text as machine code in this process (the one module that imports `llvmlite`)
    session     runs a batch; stands where `models.session.Session` does

What is compiled and what is not, and why the bits are the same, is written in docs/compiled-trees.md.
"""
