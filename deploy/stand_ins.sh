#!/bin/sh
# Images for a machine that has a Docker engine and can pull none: what deploy/compose.yaml names, made of Debian's packages.
#   sudo sh deploy/stand_ins.sh && . ./.cache/stand-ins.env && make up
# Makes muse/python:local (Debian 12, Python 3.11), muse/kafka:local (deploy/kafka/local_image.sh), muse/redis:local,
# muse/prometheus:local and muse/registry:local. There is no package of Grafana: compose leaves that service out (GRAFANA_PROFILE).
# Needs: root, dockerd, debootstrap (apt-get install -y --no-install-recommends docker.io debootstrap iptables), and the jars (make kafka registry).
set -eu
cd "$(dirname "$0")/.."
BASE=muse/python:local
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! docker image inspect "$BASE" >/dev/null 2>&1; then
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip bookworm "$work/root" >/dev/null
    # who may sign a package index's certificate here, says this machine; Debian's tool puts them, one a file, to its own
    bundle=${SSL_CERT_FILE:-$(python3 -c 'import ssl; at = ssl.get_default_verify_paths(); print(at.cafile or f"{at.capath}/ca-certificates.crt")')}
    awk -v to="$work/root/usr/local/share/ca-certificates/here-" \
        '/BEGIN CERTIFICATE/ { close(file); file = to (++n) ".crt" } n { print >file }' "$bundle"
    chroot "$work/root" update-ca-certificates >/dev/null 2>&1
    # pip has a list of its own; this is the file that the tool has just written
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$work/root/etc/pip.conf"
    rm -rf "$work/root"/var/cache/apt/*.bin "$work/root"/var/cache/apt/archives/*.deb "$work/root"/var/lib/apt/lists/* "$work/root"/usr/share/doc/*
    tar -C "$work/root" -c . | docker import - "$BASE" >/dev/null
    rm -rf "$work/root"
fi
MUSE_BASE_IMAGE=$BASE sh deploy/kafka/local_image.sh muse/kafka:local

# made NAME PACKAGE USER FOLDER ENTRYPOINT: an image of one Debian package; the classic builder, since BuildKit would ask a registry for the base
made() {
    printf 'FROM %s\nRUN apt-get update -qq && apt-get install -y -qq --no-install-recommends %s && rm -rf /var/lib/apt/lists/* && install --directory --owner %s %s\nUSER %s\nENTRYPOINT %s\n' \
        "$BASE" "$2" "$3" "$4" "$3" "$5" | DOCKER_BUILDKIT=0 docker build --quiet --tag "$1" -
}
made muse/redis:local redis-server redis /data '["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]'
# its alert rules are 2.42's: the image of compose.yaml is newer
made muse/prometheus:local prometheus nobody /prometheus '["prometheus"]'

# Apicurio, as the tests have it (make registry)
set -- .cache/registry/*/*-runner.jar
[ -f "$1" ] || { echo "no Schema Registry in .cache/registry: run 'make registry' first" >&2; exit 1; }
mkdir "$work/registry"
cp -r "$(dirname "$1")/." "$work/registry"
mv "$work/registry/$(basename "$1")" "$work/registry/registry-runner.jar"
printf 'FROM muse/kafka:local\nCOPY . /opt/registry\nCMD ["java", "-Xmx256m", "-jar", "/opt/registry/registry-runner.jar"]\n' >"$work/registry.Dockerfile"
DOCKER_BUILDKIT=0 docker build --quiet --file "$work/registry.Dockerfile" --tag muse/registry:local "$work/registry"

mkdir -p .cache
cat >.cache/stand-ins.env <<ENV
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0
export PYTHON_IMAGE=$BASE MUSE_KAFKA_IMAGE=muse/kafka:local MUSE_REDIS_IMAGE=muse/redis:local PROMETHEUS_IMAGE=muse/prometheus:local
export REGISTRY_IMAGE=muse/registry:local GRAFANA_PROFILE=no-grafana-here
ENV
echo "stand-ins: . ./.cache/stand-ins.env && make up"
