#!/bin/sh
# From a bare Debian 12 to a working .venv: called by the Makefile when a lock file, pyproject.toml or this script is newer than
# its stamp. What is missing is installed when we are root and there is apt-get; otherwise it is named in one line with the command
# that installs it.
# pip installs uv and setuptools, which need nothing else, and uv the rest: the resolver of pip 23 looks at the newest version of what
# a locked package asks for with an extra, and refuses it as not pinned, so an install by pip fails as soon as one appears. Every
# file is checked against the hash in the lock, none is built from source, and the index is whichever pip is configured for.
set -eu
cd "$(dirname "$0")/.."
VENV=.venv

need() { # need WHAT PACKAGE...: install Debian packages, or say which command would
    what=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: $what is missing: apt-get install -y $*"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } </dev/null >.setup.log 2>&1 ||
            { tail -n 5 .setup.log >&2; echo "setup: $what is missing and could not be installed: apt-get install -y $*" >&2; exit 1; }
        rm -f .setup.log
    else
        echo "setup: $what is missing; install it with: sudo apt-get install -y $*" >&2
        exit 1
    fi
}

fit() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

if ! { [ -x "$VENV/bin/python" ] && fit "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; }; then
    python=""
    for candidate in "${PYTHON:-python3}" python3.11 python3.12 python3.13; do
        if fit "$candidate"; then python=$candidate; break; fi
    done
    [ -n "$python" ] || { need "Python 3.11-3.13" python3 python3-venv; python=python3; }
    # Debian splits ensurepip from python3; without it `python3 -m venv` fails half-way
    "$python" -c 'import ensurepip, venv' 2>/dev/null || need "python3-venv" python3-venv
    echo "setup: making $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
fi

# LightGBM's wheel uses the system's OpenMP, which a bare Debian lacks
"$VENV/bin/python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || need "libgomp" libgomp1

# The broker: anything of MUSE_KAFKA_BOOTSTRAP_SERVERS, a Docker engine, or java and mvn will do
if [ -z "${MUSE_KAFKA_BOOTSTRAP_SERVERS:-}" ] && ! docker info >/dev/null 2>&1; then
    if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
        need "a JDK with Maven (or a Docker engine)" default-jdk-headless maven
    fi
fi

# Redis, for the generation store's tests: MUSE_REDIS_URL, a Docker engine, or redis-server (RUNLEVEL: installed, not started)
if [ -z "${MUSE_REDIS_URL:-}" ] && ! docker info >/dev/null 2>&1 && ! command -v redis-server >/dev/null; then
    (export RUNLEVEL=1; need "redis-server (or a Docker engine)" redis-server)
fi

echo "setup: installing the pinned dependencies"
python="$VENV/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes -r requirements-build.lock
"$python" deploy/run_uv.py pip install --quiet --python "$python" --require-hashes --no-build -r requirements-dev.lock
"$python" deploy/run_uv.py pip install --quiet --python "$python" --no-deps --no-build-isolation --offline --editable .
echo "setup: done"
