import argparse, json, sys, tempfile, time
from pathlib import Path
from tests.faults.run import Scenario, row, run
from tests.faults.nemesis import FAULTS


def main() -> int:
    p = argparse.ArgumentParser()
    p.add_argument("--release", default="4.2.0")
    p.add_argument("--nodes", type=int, default=1)
    p.add_argument("--replication", type=int, default=1)
    p.add_argument("--faults", default="kill-all")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--seconds", type=float, default=60)
    p.add_argument("--rate", type=int, default=1200)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--keep")
    a = p.parse_args()
    folder = Path(a.keep or tempfile.mkdtemp(prefix="faults-")) / time.strftime("%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    t = time.monotonic()
    r = run(
        Scenario(
            a.release, a.nodes, a.replication, tuple(a.faults.split(",")), a.seed, a.seconds, a.rate, workers=a.workers
        ),
        folder,
    )
    print(json.dumps(row(r)), "took", round(time.monotonic() - t))
    for e in r.examples:
        print("   ", e)
    print(folder)
    return 0 if r.ok else 1


if __name__ == "__main__":
    sys.exit(main())
