"""Run uv with the index, the credentials and the certificates that pip is set up for on this machine.

    python deploy/run_uv.py pip install --requirement requirements.lock

A machine where pip works needs no settings for uv. It reads pip's settings (`pip config list`: its files and its PIP_*
variables) and the environment, and runs uv in place of this process, from the environment of the Python that runs this
file. What is said to uv itself (UV_*, SSL_CERT_FILE) comes first; nothing is written down, and no value is shown.

Standard library only: it runs before anything is installed.
"""

import ast
import os
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

_SECTIONS = ("global", "install", ":env:")  # as pip reads them: the later one holds
_WHERE = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
# pip's setting -> the variable that means the same to uv
_ALIKE = {
    "client-cert": "SSL_CLIENT_CERT",
    "keyring-provider": "UV_KEYRING_PROVIDER",
    "proxy": "ALL_PROXY",
    "retries": "UV_HTTP_RETRIES",
    "timeout": "UV_HTTP_TIMEOUT",
    "trusted-host": "UV_INSECURE_HOST",
}


def pip_settings(listing: str) -> dict[str, str]:
    """Return the settings that `pip install` would use, from the output of `pip config list`."""
    found: dict[str, str] = {}
    for section in _SECTIONS:
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(f"{section}."):
                found[name.removeprefix(f"{section}.")] = str(ast.literal_eval(value))
    return {name: value for name, value in found.items() if value}


def uv_variables(pip: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that tell uv what pip was told; none that is among `given`."""
    said = {variable: " ".join(pip[name].split()) for name, variable in _ALIKE.items() if name in pip}
    if said.get("UV_KEYRING_PROVIDER") != "subprocess":  # uv knows one of pip's ways to ask a keyring
        said.pop("UV_KEYRING_PROVIDER", None)
    if not any(variable in given for variable in _WHERE):
        said |= _index(pip)
    said |= _certificates(pip, given)
    return {variable: value for variable, value in said.items() if variable not in given}


def _index(pip: Mapping[str, str]) -> dict[str, str]:
    said = {}
    if "index-url" in pip:
        said["UV_DEFAULT_INDEX"] = pip["index-url"]
    if "extra-index-url" in pip:
        said["UV_INDEX"] = " ".join(pip["extra-index-url"].split())
        # uv would look no further than the first index that knows a name; the hashes decide what may come from where
        said["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "find-links" in pip:
        said["UV_FIND_LINKS"] = ",".join(os.path.expanduser(place) for place in pip["find-links"].split())
    return said


def _certificates(pip: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    if "SSL_CERT_FILE" in given or "SSL_CERT_DIR" in given:
        return {}
    # pip's own setting, then the variables of the library that it fetches with
    told = pip.get("cert") or given.get("REQUESTS_CA_BUNDLE") or given.get("CURL_CA_BUNDLE")
    if told:
        return {"SSL_CERT_DIR" if Path(told).is_dir() else "SSL_CERT_FILE": os.path.expanduser(told)}
    # the machine's own store knows a company's authority; a bare machine has none, and uv brings one
    store = ssl.get_default_verify_paths()
    known = store.cafile or (store.capath and any(Path(store.capath).iterdir()))
    return {"UV_SYSTEM_CERTS": "true"} if known else {}


def main(arguments: list[str]) -> int:
    """Become uv; returns only when pip cannot tell its settings."""
    pip: dict[str, str] = {}
    if find_spec("pip"):  # there are environments without
        listing = [sys.executable, "-m", "pip", "config", "list"]
        asked = subprocess.run(listing, stdout=subprocess.PIPE, text=True, check=False)
        if asked.returncode:
            return asked.returncode  # pip has said why
        pip = pip_settings(asked.stdout)
    if pip.get("no-index") not in (None, "0", "false", "no", "off"):
        arguments = [*arguments, "--no-index"]  # there is no variable for it
    uv = str(Path(sysconfig.get_path("scripts"), "uv"))
    os.execve(uv, [uv, *arguments], {**uv_variables(pip, os.environ), **os.environ})  # noqa: S606  no shell, on purpose


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
