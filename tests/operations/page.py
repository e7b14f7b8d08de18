"""docs/operations.md as a program: the commands of a section, to be run as they stand."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def sections() -> dict[str, str]:
    """Title -> text of each section (`##`)."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(map(str.strip, parts[1::2]), parts[2::2], strict=True))


def commands(title: str) -> list[str]:
    """Return the command blocks (```sh) of a section, in their order."""
    return re.findall(r"^```sh\n(.*?)^```", sections()[title], flags=re.DOTALL | re.MULTILINE)
