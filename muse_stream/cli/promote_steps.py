"""`promote --steps` and `promote --resume`: what is shown, and what is asked."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import typer

from muse_stream.cli.options import Session
from muse_stream.cli.output import agreed, note, progress, say, show_json, show_line

if TYPE_CHECKING:
    from muse_stream.commands.evidence import Evidence
    from muse_stream.commands.gradual import Plan, Report
    from muse_stream.commands.promote import Prepared
    from muse_stream.errors import Problem

SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
Weigh = Callable[["Prepared", "Sequence[Evidence]", "Sequence[Problem]"], dict[str, Any]]
"""Show what changes, the evidence and what speaks against it; return the facts."""


def shares(text: str) -> tuple[float, ...]:
    """Return `1%,10%,100%` as shares of 1; raises a usage error that says what is right."""
    found = [SHARE.fullmatch(part.strip()) for part in text.split(",")]
    steps = [float(one[1]) / 100 for one in found if one]
    right = "give growing shares with a % sign, the last one 100%: --steps 1%,10%,100%"
    if len(steps) != len(found):
        wrong = next(part for part, one in zip(text.split(","), found, strict=True) if not one)
        raise typer.BadParameter(f"'{wrong.strip()}' is no share; {right}", param_hint="--steps")
    if not all(0 < one <= 1 for one in steps):
        raise typer.BadParameter(f"a share is above 0% and at most 100%; {right}", param_hint="--steps")
    if steps != sorted(set(steps)) or steps[-1] != 1:
        raise typer.BadParameter(f"'{text}' does not grow to 100%; {right}", param_hint="--steps")
    return tuple(round(one, 12) for one in steps)


def walk(
    session: Session, address: str, plan: "Plan", weigh: Weigh, message: str, *, dry_run: bool, yes: bool, as_json: bool
) -> None:
    """Begin, and stay until the last step has held."""
    from muse_stream.commands import gradual  # noqa: PLC0415
    from muse_stream.control import open_store  # noqa: PLC0415

    def decide(prepared: "Prepared", evidence: "Sequence[Evidence]", against: "Sequence[Problem]") -> bool:
        facts = weigh(prepared, evidence, against)
        refused = bool(against) and not plan.force
        steps = ", ".join(gradual.percent(one) for one in plan.steps)
        if dry_run or refused:
            if as_json:
                show_json({"changed": False, "steps": plan.steps, "hold_s": plan.hold_s, **facts})
            elif not refused:
                say(f"it would take {steps} of the events, each for {plan.hold_s:g} s; nothing was changed")
            raise typer.Exit(2 if refused else 0)
        if as_json:
            show_line({"what": "evidence", **facts})
        return agreed(f"Give {plan.predictor} {steps} of these events, step by step?", yes=yes)

    with closing(open_store(address)) as store, _shown(as_json=as_json) as tell:
        if not gradual.begin(store, address, session.kafka, plan, decide, tell, message):
            raise typer.Exit(1)


def go_on(session: Session, address: str, message: str, *, as_json: bool) -> None:
    """Go on with the step that is current."""
    from muse_stream.commands import gradual  # noqa: PLC0415
    from muse_stream.control import open_store  # noqa: PLC0415

    with closing(open_store(address)) as store, _shown(as_json=as_json) as tell:
        gradual.resume(store, address, session.kafka, tell, message)


@contextmanager
def _shown(*, as_json: bool) -> Iterator["Callable[[Report], None]"]:
    """Show what goes on; say what is left to do when it is interrupted."""
    last: list[Report] = []

    def tell(one: "Report") -> None:
        if one.generation:
            last[:] = [one]
        if as_json:
            show_line({"what": one.what, "text": one.text, "generation": one.generation, "share": one.share,
                       "left_s": round(one.left_s, 1), **one.numbers})  # fmt: skip
        elif one.what == "look":
            held[0] = max(held[0], one.left_s)
            update(int(held[0] - one.left_s), int(held[0]) or 1, f"{100 * one.share:g} %: {one.text}")
        elif one.what in ("waiting", "back"):
            note(one.text, "yellow" if one.what == "waiting" else "red")
        else:
            held[0] = one.left_s
            say(one.text)

    held = [0.0]
    with progress("looking") as update:
        try:
            yield tell
        except KeyboardInterrupt:
            if last:
                where = f"generation {last[0].generation} goes on, {100 * last[0].share:g} % of the events"
                note(
                    f"interrupted: {where}; `muse-stream promote --resume` goes on, `muse-stream rollback` goes back",
                    "yellow",
                )
            raise
