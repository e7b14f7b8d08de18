#!/bin/sh
# Make an installation smaller, for the image: `trim.sh VENV CONFIG`. What goes: tests, headers and sources for those who build, parts
# of Arrow, onnxruntime and SciPy that nobody here uses (Flight, S3; tools that make models; all but special functions),
# symbols of native code; with COMPILED other than `yes` LLVM as well, without which trees run by onnxruntime (docs/compiled-trees.md).
# Bytecode is made for the modules that are used, and not for all: a container cannot write any, and without it a start costs twice as
# much. The last commands fail where something that is needed was taken away.
set -eu
venv=$1 config=$(realpath "$2")
cd "$venv"/lib/python3*/site-packages
[ "${COMPILED:-no}" = yes ] || rm -rf llvmlite llvmlite-*.dist-info
find . -type d \( -name tests -o -name include -o -name __pycache__ \) -prune -exec rm -rf {} +
find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h' -o -name '*.cc' -o -name '*.a' \) -delete
rm -rf onnx/backend/test pyarrow/src onnxruntime/transformers onnxruntime/quantization onnxruntime/tools
rm -f pyarrow/libarrow_flight* pyarrow/_flight* pyarrow/libarrow_python_flight* pyarrow/libarrow_s3* pyarrow/_s3fs*
# onnxruntime once more, for programs in C: Python's module has it linked in
rm -f onnxruntime/capi/libonnxruntime.so.*
# each of these libraries is here under three names, for who builds: wheels have no links, and the loader asks for the middle one
rm -f pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.*
for unused in cluster constants datasets differentiate fft fftpack integrate interpolate io misc ndimage odr optimize signal sparse \
    spatial stats; do rm -rf "scipy/$unused"; done
# strip writes a file in place: one that is a link, as uv makes them of its cache, would change in every environment of the machine
find . -type f -name '*.so*' -links +1 -exec sh -c 'for file; do cp -p "$file" "$file.own" && mv "$file.own" "$file"; done' sh {} +
# what auditwheel has put into NAME.libs was patched, and does not survive it
find . -type f -name '*.so*' -not -path '*.libs/*' -exec strip --strip-unneeded {} +

unset PYTHONDONTWRITEBYTECODE
"$venv/bin/python" -c 'import muse_stream.runtime.worker_process, muse_stream.runtime.tracing, muse_stream.runtime.calibrate, muse_stream.commands.promote, muse_stream.commands.fit, muse_stream.commands.archive, redis'
"$venv/bin/python" -c 'from scipy.special import betainc, betaincc, betaincinv, chdtrc, expit, logit'
"$venv/bin/muse-stream" --help >/dev/null
"$venv/bin/muse-stream" check "$config" >/dev/null
