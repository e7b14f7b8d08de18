"""What is shipped, for auditors: a bill of materials (CycloneDX), a list of licences, and an audit for advisories.

    python deploy/sbom.py sbom FILE.json      the packages of requirements.lock, in an environment of their own
    python deploy/sbom.py licences            the same as a table: name, version, licence
    python deploy/sbom.py audit               known vulnerabilities of the locked versions; needs an advisory database

The bill is made by cyclonedx-py (the CycloneDX project's own tool) of the environment that a release is checked in.
`audit` asks the database of OSV through uv. Where it cannot be reached the audit says so and ends with 0: nothing was
found out, which is not the same as nothing was found; `--strict` makes it 1.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
UV = ROOT / "deploy" / "run_uv.py"
SCHEMA = "1.6"
MADE = (0, 1)
"""How uv ends where it could ask: nothing was found, something was."""


def environment(place: Path) -> Path:
    """Install the locked packages into a new environment; returns its Python."""
    python = place / "bin" / "python"
    _uv("venv", "--quiet", "--python", sys.executable, place)
    _uv("pip", "install", "--quiet", "--python", python, "--require-hashes", "--no-build", "-r", LOCK)
    return python


def bill(python: Path) -> dict[str, Any]:
    """Return the bill of materials of an environment, the same in every run: without its time and random number."""
    tool = [Path(sys.executable).with_name("cyclonedx-py"), "environment"]
    options = ["--pyproject", ROOT / "pyproject.toml", "--sv", SCHEMA, "--of", "JSON", "--output-reproducible"]
    done = subprocess.run(
        [str(word) for word in (tool[0], tool[1], *options, python)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"sbom: cyclonedx-py ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def licences(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield name, version and licence of every component."""
    for component in sorted(found.get("components", ()), key=lambda one: one["name"].lower()):
        names = []
        for one in component.get("licenses", ()):
            licence = one.get("license", {})
            names.append(one.get("expression") or licence.get("id") or licence.get("name") or "")
        yield (
            component["name"],
            component.get("version", ""),
            "; ".join(dict.fromkeys(filter(None, names))) or "unknown",
        )


def audit(*, strict: bool) -> int:
    """Ask for known vulnerabilities of the locked versions; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="muse-audit-") as folder:
        script = Path(folder, "locked.py")
        pins = [line.removesuffix(" \\") for line in LOCK.read_text().splitlines() if "==" in line]
        body = "".join(f'#   "{pin}",\n' for pin in pins)
        script.write_text(f'# /// script\n# requires-python = ">=3.11"\n# dependencies = [\n{body}# ]\n# ///\n')
        done = subprocess.run(
            [sys.executable, str(UV), "audit", "--script", str(script), "--python-platform", "linux"],
            capture_output=True,
            text=True,
            check=False,
        )
    said = (done.stdout + done.stderr).strip()
    if done.returncode in MADE:
        print(said)
        return done.returncode
    print(f"audit: NOT MADE, no advisory database could be asked; nothing is known of {len(pins)} packages:")
    print(said[-1500:])
    return 1 if strict else 0


def _uv(*words: str | Path) -> None:
    done = subprocess.run([sys.executable, str(UV), *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"sbom: uv {words[0]} ended with code {done.returncode}: {done.stderr.strip()[-500:]}")


def main() -> int:
    """Read the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Bill of materials, licences and audit of the locked packages.")
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("sbom", help="write a bill of materials (CycloneDX, JSON)")
    writing.add_argument("file", type=Path)
    writing.add_argument("--python", type=Path, help="of an environment that is there, in place of the locked packages")
    commands.add_parser("licences", help="list name, version and licence")
    auditing = commands.add_parser("audit", help="ask for known vulnerabilities")
    auditing.add_argument("--strict", action="store_true", help="end with 1 where the audit could not be made")
    asked = parser.parse_args()
    if asked.command == "audit":
        return audit(strict=asked.strict)
    with tempfile.TemporaryDirectory(prefix="muse-sbom-") as folder:
        given: Path | None = getattr(asked, "python", None)
        found = bill(given or environment(Path(folder, "environment")))
    if asked.command == "sbom":
        asked.file.parent.mkdir(parents=True, exist_ok=True)
        asked.file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"{asked.file}: {len(found['components'])} components, CycloneDX {SCHEMA}")
        return 0
    for name, version, licence in licences(found):
        print(f"{name:<28} {version:<16} {licence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
