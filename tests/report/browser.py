"""A headless Chromium that reaches nothing."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.patience import PATIENCE

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def browser() -> str:
    """Return the program; skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium-headless-shell)")
    return found


def opened(page: Path, folder: Path, *options: str) -> tuple[str, list[str]]:
    """Open a page and return the document as the browser has it, and every address that it wanted from a network."""
    log = folder / "net.json"
    words = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
        *(f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}", "--dump-dom"),
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    done = subprocess.run(
        [browser(), *words, *options, page.as_uri()],
        capture_output=True, text=True, timeout=60 * PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    text = log.read_text(encoding="utf-8").rstrip().rstrip(",")
    events = json.loads(text if text.endswith("}") else f"{text}]}}")["events"]
    asked = [one.get("params", {}).get("url") for one in events]
    return done.stdout, sorted({url for url in asked if url and not url.startswith(("file:", "data:", "chrome"))})
