"""Places where a test can make this process die or stand still: every stage of a transaction.

The variable `MUSE_FAILPOINTS`, e.g. `after-produce=kill:0.02,before-commit=stop:0.01` (action:probability), decides
what `failpoint(name)` does, which the committing thread and the worker call. Nothing happens unless the variable is
set. A name that is not in `STEPS`, or an action that is not in `ACTIONS`, is refused at start, so that a fault test
cannot pass because of a typing error.
"""

import os
import random
import signal
from collections.abc import Callable, Mapping

from muse_stream import environment

VARIABLE = "MUSE_FAILPOINTS"
STEPS = ("after-poll", "after-produce", "after-flush", "after-send-offsets", "before-commit", "after-commit")
COUNTING = (
    *("after-read", "counts-stored", "offsets-stored"),
    *("refresh-proposed", "refresh-decided", "refresh-stored", "refresh-current"),
)
"""Those of the role `calibrate`."""
ACTIONS: Mapping[str, signal.Signals] = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

Failpoint = Callable[[str], None]


def nothing(_name: str) -> None:
    """The failpoint of every real run."""


def from_environment() -> Failpoint:
    """Read `MUSE_FAILPOINTS`; raises ValueError on an unknown step or action."""
    text = environment.read(VARIABLE)
    if not text:
        return nothing
    rules: dict[str, tuple[signal.Signals, float]] = {}
    for entry in text.split(","):
        step, _, rest = entry.partition("=")
        action, _, probability = rest.partition(":")
        if step not in (*STEPS, *COUNTING) or action not in ACTIONS:
            raise ValueError(
                f"{VARIABLE}: '{entry}' is not STEP=ACTION[:PROBABILITY]; "
                f"steps {STEPS + COUNTING}, actions {tuple(ACTIONS)}"
            )
        rules[step] = (ACTIONS[action], float(probability or 1))
    dice = random.Random(os.getpid())  # noqa: S311  # not for secrets: it only spreads the faults

    def strike(name: str) -> None:
        rule = rules.get(name)
        if rule and dice.random() < rule[1]:
            os.write(2, f"failpoint {name}: {rule[0].name}\n".encode())  # a test must see which steps were struck
            os.kill(os.getpid(), rule[0])

    return strike
