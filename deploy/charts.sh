#!/bin/sh
# `make charts`: gets helm (by Go, some minutes) into .cache/charts, checks the chart, renders it, and validates what comes out for
# Kubernetes 1.30 to 1.34. deploy/helm/rendered is written only when all of that went well.
set -eu
cd "$(dirname "$0")/.."
TOOLS=$PWD/.cache/charts
HELM_VERSION=v3.19.5
if ! command -v helm >/dev/null && [ ! -x "$TOOLS/bin/helm" ]; then
    command -v go >/dev/null || { echo "charts: there is neither helm nor Go to build it" >&2; exit 1; }
    echo "charts: building helm $HELM_VERSION"
    GOBIN=$TOOLS/bin go install "helm.sh/helm/v3/cmd/helm@$HELM_VERSION"
fi
exec .venv/bin/python deploy/helm/render.py
