"""Runs of two releases in one scene, replaced one by one."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.operations.scene import Run, Scene
from tests.patience import until

RATE, PART_S = 200, 0.25
ROLES = {"first": "live", "second": "live", "shadow": "shadow"}


class Rolling:
    """A scene whose commands are those of one release or the other."""

    def __init__(self, scene: Scene, bins: Mapping[str, Path], say: Callable[[object], None]) -> None:
        self.scene, self._bins, self._say = scene, bins, say
        self._runs: dict[str, Run] = {}
        self._serves: dict[str, str] = {}
        self._began = time.monotonic()
        self.steps: list[str] = []

    def there_and_back(self) -> None:
        """Replace all runs by the newer release, and back; AssertionError where something is not kept."""
        scene = self.scene
        self.use("older")
        scene.bank.shadow = ("retrained",)
        scene.configure()
        scene.prepare()
        for name in ROLES:
            self.start(name)
        with self._load():
            self.await_generation(1)
            self.replace("first", "newer")
            self.publish("older", 2)
            self.replace("second", "newer")
            self.replace("shadow", "newer")
            self.publish("newer", 3)
            self.replace("first", "older")
            self.publish("newer", 4)
            self.publish("older", 5)
            self.replace("second", "older")
            self.replace("shadow", "older")
            self.publish("older", 6)
        self.use("newer")
        scene.await_answers()
        until(lambda: scene.audited().keys() >= set(scene.bank.sent), 60, lambda: f"{len(scene.audited())} audited")
        assert max(scene.audited().values()) == 1, "an event has two audit records"
        for run in self._runs.values():
            assert run.stop() == 0, run.log

    def use(self, release: str) -> None:
        """Commands are those of this release from now on."""
        self.scene.bin = self._bins[release]
        self.scene.consent = "--yes" if "--yes" in self.scene.shell("muse-stream publish --help") else ""

    def start(self, name: str, release: str = "older") -> None:
        """Start a run, which is named so for ever: its transactional ids and its place in the group go on."""
        self.use(release)
        self._runs[name] = self.scene.run(ROLES[name], name=name)
        self._serves[name] = release

    def replace(self, name: str, release: str) -> None:
        """Drain a run and start the other release in its place."""
        assert self._runs[name].stop() == 0, self._runs[name].log
        self.start(name, release)
        self._tell(f"{name} is {release}")
        self._await_progress()

    def publish(self, release: str, number: int) -> None:
        """Publish a generation by a release's command line; every run serves it."""

        def changed(document: dict[str, Any]) -> None:
            document["limits"] = {**document.get("limits", {}), "max_batch": 1000 + number}

        self.use(release)
        self.scene.configure(changed)
        self.scene.publish()
        self.await_generation(number)
        self._tell(f"{release} has published {number}")

    def await_generation(self, number: int) -> None:
        """Return when the last answers to every partition are of this generation."""
        until(lambda: set(self.scene.last_generations().values()) == {number}, 60, self._generations)
        self._await_progress()

    @contextmanager
    def _load(self) -> Iterator[None]:
        """Send events at a steady rate until the end, which waits for the last to be sent."""
        over = threading.Event()
        failed: list[BaseException] = []

        def feed() -> None:
            try:
                while not over.wait(PART_S):
                    self.scene.feed(int(RATE * PART_S))
            except BaseException as error:  # noqa: BLE001  # raised below, where it is seen
                failed.append(error)

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
        if failed:
            raise failed[0]

    def _await_progress(self) -> None:
        """Return when everything is answered that is sent by now."""
        sent = set(self.scene.bank.sent)
        until(lambda: not sent & set(self.scene.account().missing), 60, lambda: str(self.scene.account()))

    def _generations(self) -> str:
        return f"generations of the last answers: {self.scene.last_generations()}"

    def _tell(self, step: str) -> None:
        serving = ", ".join(f"{name} {release}" for name, release in self._serves.items())
        self.steps.append(f"{time.monotonic() - self._began:.0f} s: {step} ({serving})")
        self._say(self.steps[-1])
