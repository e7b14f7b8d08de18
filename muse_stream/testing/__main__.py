"""`python -m muse_stream.testing [kafka|redis|registry|classes]`: fetch what is needed, and say which it will be.

Without a word: kafka and redis. `classes` makes each start of a broker on the JVM cost 1.5 s of CPU instead of 2.6.
"""

import sys

from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import PLACES, prepare
from muse_stream.testing.kafka_jars import missing_tools
from muse_stream.testing.local_cluster import archive_classes
from muse_stream.testing.redis_server import prepare_redis
from muse_stream.testing.registry_server import prepare_registry


def prepare_classes() -> None:
    """Archive Kafka's classes, where brokers run on the JVM."""
    if not missing_tools():
        archive_classes(PLACES)


PREPARE = {"kafka": prepare, "redis": prepare_redis, "registry": prepare_registry, "classes": prepare_classes}
DEFAULT = ("kafka", "redis")

if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or DEFAULT:
            PREPARE[name]()
    except MuseError as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.exit_code)
