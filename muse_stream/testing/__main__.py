"""`python -m muse_stream.testing [kafka|redis]`: fetch what is needed, and say which it will be; both by default."""

import sys

from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import prepare
from muse_stream.testing.redis_server import prepare_redis

PREPARE = {"kafka": prepare, "redis": prepare_redis}

if __name__ == "__main__":
    try:
        for name in sys.argv[1:] or PREPARE:
            PREPARE[name]()
    except MuseError as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.exit_code)
