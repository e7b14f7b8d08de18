"""docs/operations.md as a program: the commands of a section, to be run as they stand, and what it shows as said."""

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
WORDS = ("error", "hint", "note", "client", "chosen")
"""Values of log lines that are words, to be compared as such; the others are numbers and names of the moment."""
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
_LABEL = re.compile(r"^\*\*(What .+?)\.\*\*", flags=re.MULTILINE)
_MOMENTARY = [
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+\d\d:\d\d)"), "TIME"),
    (
        re.compile(
            r"\b(?:\d{1,3}(?:\.\d{1,3}){3}|localhost|HOST|redis|old|[\w.-]+\.invalid):(?:\d+|PORT)(?:,[\d.:,]+)?"
        ),
        "ADDRESS",
    ),
    (re.compile(r"(?:/[\w.-]+)?ADDRESS/\d+"), "ADDRESS"),
    (re.compile(r"ADDRESS \([a-z ]+\)"), "ADDRESS"),  # the operating system's words
    (re.compile(r"muse-muse[\w.-]+"), "ID"),
    (re.compile(r"\bmuse\.(?:events|scores|audit|dlq)\.\w+(?:\[\d+\])?"), "TOPIC"),
    (re.compile(r"\b(?:muse|bank)\.\w+\.(?:live|shadow)\b"), "GROUP"),
    (re.compile(r"'[\w.-]+'"), "'NAME'"),
    (re.compile(r"(?<=id is now )[\w-]{22}"), "ID"),
    (re.compile(r"\b[a-z]+-\d+(?:\.\d+)?\b"), "SLOT"),
    (re.compile(r"(?<![\w.])\d[\d,.]*\d|(?<![\w.])\d"), "N"),
]


def sections() -> dict[str, str]:
    """Title -> text of each section (`##`)."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(map(str.strip, parts[1::2]), parts[2::2], strict=True))


def commands(title: str) -> list[str]:
    """Return the command blocks (```sh) of a section, in their order."""
    return re.findall(r"^```sh\n(.*?)^```", sections()[title], flags=re.DOTALL | re.MULTILINE)


def log_lines(title: str) -> list[dict[str, Any]]:
    """Return the lines of the log that a section shows (```json)."""
    return [json.loads(line) for line in _blocks(title, "json")]


def told(title: str) -> list[str]:
    """Return the lines that a section says commands print (```text, but where it says what to do)."""
    return _blocks(title, "text")


def quoted(title: str) -> list[str]:
    """Return what a section quotes in a sentence about what is said."""
    text = "\n".join(_BLOCK.sub("", part) for part in _said(title, "says"))
    return re.findall(r"`([^`]+)`", text)


def without_the_moment(text: str) -> str:
    """Return a message without what is another each time: names, numbers, addresses, times."""
    text = " ".join(text.split())  # commands break their lines where the terminal ends
    for pattern, name in _MOMENTARY:
        text = pattern.sub(name, text)
    return text


def missing(title: str, logged: list[dict[str, Any]], printed: str) -> list[str]:
    """Return what a section shows and a run has neither logged nor printed."""
    lines = [line for line in log_lines(title) if not any(_shows(line, one) for one in logged)]
    text = without_the_moment(printed)
    return [json.dumps(one) for one in lines] + [one for one in told(title) if without_the_moment(one) not in text]


def _shows(line: dict[str, Any], logged: dict[str, Any]) -> bool:
    """Whether the page may show this as an example of what was logged."""
    same = (line["event"], line["level"]) == (logged["event"], logged["level"]) and line.keys() <= logged.keys()
    return same and all(
        without_the_moment(str(line[key])) == without_the_moment(str(logged[key])) for key in WORDS if key in line
    )


def _blocks(title: str, kind: str) -> list[str]:
    found = [body for part in _said(title) for language, body in _BLOCK.findall(part) if language == kind]
    return [line.strip() for body in found for line in body.splitlines() if line.strip()]


def _said(title: str, how: str = "") -> list[str]:
    """Return the parts of a section with this word in their headings; not what to do, where blocks are commands."""
    parts = _LABEL.split(sections()[title])
    labelled = zip(parts[1::2], parts[2::2], strict=True)
    return [body for label, body in labelled if label != "What to do" and how in label]
