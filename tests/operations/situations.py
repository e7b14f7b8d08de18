"""The situations of docs/operations.md, each as a function of a scene: 0 missing, 0 doubled, 0 out of order at its end,
or what the page says instead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.operations.scene import Scene
from tests.patience import until


@dataclass(frozen=True)
class Situation:
    """One of them. `title` is the page's section; `brokers` where it makes sense."""

    title: str
    happens: Callable[[Scene], None]
    """Raises AssertionError where it is not as the page says."""
    brokers: tuple[int, ...] = (1, 3)
    properties: Mapping[str, str] = field(default_factory=dict)
    """Of the brokers."""


def frozen(scene: Scene) -> None:
    """All brokers stand still for longer than session and transaction timeout, and go on."""
    scene.prepare()
    live = scene.run("live", "main", "--workers", "2")
    scene.feed(400)
    scene.await_answers()
    for node in scene.brokers.nodes:
        node.pause()
    try:
        until(lambda: len(live.lines("aborted")) + len(live.lines("worker_ended")) > 0, 60)
    finally:
        for node in scene.brokers.nodes:
            node.resume()
    scene.feed(400)
    scene.await_answers(120)


SITUATIONS = [Situation("Broker frozen", frozen)]
