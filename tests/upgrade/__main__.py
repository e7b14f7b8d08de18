"""`make upgrade`: a rolling upgrade from an older release to this one under load, and back again.

make upgrade                                 from the newest tag of this repository, or the commit that stands for it
make upgrade ARGS="--from 10d95a6"           from any revision
make upgrade ARGS="--brokers 3 --keep DIR"   on three brokers; folders and logs are kept there

Two runs of live workers and one of shadow workers share their groups and a store. They are replaced one by one, first
by this release, then by the older one; both releases publish on the way, also while both serve. An independent reader
counts every answer, and the generation that each was made by. docs/upgrades.md tells what was found.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from muse_stream.errors import MuseError
from muse_stream.testing.kafka_broker import PLACES
from muse_stream.testing.local_cluster import archive_classes
from tests.operations.scene import scene
from tests.upgrade.release import install, latest
from tests.upgrade.rolling import Rolling


def main(arguments: Sequence[str]) -> int:
    """Run it; 1 when something was not kept."""
    asked = _arguments(arguments)
    try:
        older = asked.older or latest()
        bins = {"older": install(older, _say), "newer": Path(sys.executable).parent}
    except (MuseError, subprocess.CalledProcessError) as error:
        _say(error)
        return 2
    archive_classes(PLACES, _say)
    with tempfile.TemporaryDirectory(prefix="upgrade-") as passing:
        folder = (asked.keep or Path(passing)) / f"{older}-{asked.brokers}"
        folder.mkdir(parents=True)
        try:
            with scene(asked.brokers, folder) as made:
                rolling = Rolling(made, bins, _say)
                rolling.there_and_back()
                account, audited = made.account(), made.audited()
                wrong = [
                    f"verify of {name}: {findings}" for name in made.bank.names() if (findings := made.verdict(name))
                ]
        except (AssertionError, MuseError, KafkaException, OSError, subprocess.SubprocessError, TimeoutError):
            _say(traceback.format_exc())
            return 1
    found: dict[str, Any] = {
        "from": older,
        "brokers": asked.brokers,
        "events": account.sent,
        "missing": len(account.missing),
        "doubled": len(account.doubled),
        "out_of_order": len(account.disorder),
        "dead_letters": account.dead,
        "audit_records_doubled": sum(count > 1 for count in audited.values()),
        "verify": wrong,
        "steps": rolling.steps,
    }
    if asked.json:
        print(json.dumps(found))
    else:
        lines = [(key, value) for key, value in found.items() if not isinstance(value, list)]
        print("\n".join(f"{key:22} {value}" for key, value in [*lines, *(("verify", one) for one in wrong)]))
    return int(bool(wrong) or not account.kept or bool(account.dead) or bool(found["audit_records_doubled"]))


def _arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="upgrade", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="older", metavar="REVISION", help="the older release (default: the newest tag)")
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="folder for the logs")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(given)


def _say(line: object) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
