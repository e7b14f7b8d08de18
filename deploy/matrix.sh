#!/bin/sh
# The tests that need no broker on one Python after another, each in an environment of its own from the same lock:
#   sh deploy/matrix.sh "3.11 3.12 3.13" -m "not broker and not long and not slow"
# An interpreter that this machine lacks is a failure, named by uv; UV_PYTHON_DOWNLOADS=automatic lets uv fetch it.
set -u
cd "$(dirname "$0")/.." || exit 1
UV_PYTHON_DOWNLOADS=${UV_PYTHON_DOWNLOADS:-never}
export UV_PYTHON_DOWNLOADS
versions=$1
shift
python=.venv/bin/python

failed=""
for version in $versions; do
    place=.cache/matrix/$version
    echo "matrix: Python $version"
    $python deploy/run_uv.py venv --quiet --clear --python "$version" "$place" &&
        $python deploy/run_uv.py pip install --quiet --python "$place/bin/python" --require-hashes --no-build -r requirements-dev.lock &&
        $python deploy/run_uv.py pip install --quiet --python "$place/bin/python" --no-deps --no-build-isolation --offline --editable . &&
        "$place/bin/python" -m pytest "$@" || failed="$failed $version"
done
[ -z "$failed" ] || { echo "matrix: failed on Python$failed" >&2; exit 1; }
