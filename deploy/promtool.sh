#!/bin/sh
# promtool for the tests of alerts, which are skipped, and say so, where there is none: never a reason to fail. Taken out of Debian's
# package into .cache/prometheus, beside the server itself; nothing is installed, no service is started.
set -u
cd "$(dirname "$0")/.." || exit 1
TARGET=.cache/prometheus
if command -v promtool >/dev/null || [ -x "$TARGET/usr/bin/promtool" ]; then exit 0; fi
if command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    echo "alerts: there is no promtool: apt-get download prometheus"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    chmod 755 "$work"
    if (cd "$work" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; }) </dev/null >/dev/null 2>&1 &&
        dpkg-deb -x "$work"/prometheus_*.deb "$work/tree" && mkdir -p .cache && rm -rf "$TARGET" && mv "$work/tree" "$TARGET"; then
        exit 0
    fi
fi
echo "alerts: their tests by promtool are skipped; to have them run: sudo apt-get install -y --no-install-recommends prometheus" >&2
