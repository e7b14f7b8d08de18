#!/bin/sh
# A Kafka image for a machine that has a Docker engine and can pull none: Debian by debootstrap, a JRE, and the jars that Maven copied.
# It has what the container rung of muse_stream/testing/kafka_broker.py needs of apache/kafka, and no more: a non-root user, sh, and
# /opt/kafka/bin/{kafka-storage.sh,kafka-server-start.sh}, the latter replacing itself by java. Its default command does what
# apache/kafka's does for deploy/compose.yaml: KAFKA_* variables become server.properties, a new folder is formatted.
#   sudo sh deploy/kafka/local_image.sh && MUSE_KAFKA_IMAGE=muse/kafka:local make test
# Needs: root, dockerd, debootstrap (apt-get install -y --no-install-recommends docker.io debootstrap iptables), and the jars (make kafka).
set -eu
cd "$(dirname "$0")"
IMAGE=${1:-muse/kafka:local}
BASE=${MUSE_BASE_IMAGE:-muse/debian:bookworm}
VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' pom.xml)
JARS=../../.cache/kafka/$VERSION/lib
[ -d "$JARS" ] || { echo "no jars in .cache/kafka/$VERSION: run 'make kafka' first" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! docker image inspect "$BASE" >/dev/null 2>&1; then
    debootstrap --variant=minbase bookworm "$work/root" >/dev/null
    tar -C "$work/root" -c . | docker import - "$BASE" >/dev/null
    rm -rf "$work/root"
fi

mkdir "$work/bin"
cp -r "$JARS" "$work/libs"
cat >"$work/bin/kafka-run-class.sh" <<'SH'
#!/bin/sh
exec java ${KAFKA_HEAP_OPTS:-} -cp '/opt/kafka/libs/*' "$@"
SH
printf '#!/bin/sh\nexec /opt/kafka/bin/kafka-run-class.sh kafka.tools.StorageTool "$@"\n' >"$work/bin/kafka-storage.sh"
printf '#!/bin/sh\nexec /opt/kafka/bin/kafka-run-class.sh kafka.Kafka "$@"\n' >"$work/bin/kafka-server-start.sh"
printf '#!/bin/sh\nexec /opt/kafka/bin/kafka-run-class.sh org.apache.kafka.tools.BrokerApiVersionsCommand "$@"\n' >"$work/bin/kafka-broker-api-versions.sh"
cat >"$work/bin/run-by-environment.sh" <<'SH'
#!/bin/sh
set -eu
env | sed -n 's/^KAFKA_\([A-Z_]*\)=\(.*\)/\1 \2/p' | grep -v '^HEAP_OPTS ' |
    while read -r name value; do printf '%s=%s\n' "$(echo "$name" | tr 'A-Z_' 'a-z.')" "$value"; done >/tmp/server.properties
/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id 4L6g3nShT-eMCtK--X86sw --config /tmp/server.properties
exec /opt/kafka/bin/kafka-server-start.sh /tmp/server.properties
SH
chmod 755 "$work"/bin/*
cat >"$work/Dockerfile" <<'DOCKER'
ARG BASE
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 appuser && install --directory --owner 1000 --group 1000 /var/lib/kafka/data
COPY libs /opt/kafka/libs
COPY bin /opt/kafka/bin
USER appuser
EXPOSE 9092
CMD ["/opt/kafka/bin/run-by-environment.sh"]
DOCKER
# the classic builder: BuildKit would ask a registry about the base image, which is local only
DOCKER_BUILDKIT=0 docker build --quiet --build-arg "BASE=$BASE" --tag "$IMAGE" "$work"
