"""`python -m muse_stream.testing`: fetch what the broker needs, and say which one it will be."""

import sys

from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import prepare

if __name__ == "__main__":
    try:
        prepare()
    except MuseError as refused:
        print(refused, file=sys.stderr)
        sys.exit(refused.exit_code)
