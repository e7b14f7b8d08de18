"""Ask the health pages of a container's workers: `python3 healthcheck.py live|ready [WORKERS]`; exit code 0 yes, 1 no.

The port is MUSE_HEALTH_PORT of the container, the address MUSE_HEALTH_HOST where one is set. Worker n is on port + n;
WORKERS of them are asked, 1 unless it is given. One line says which worker says no, and why. Without a port there is
nothing to ask: yes. Imports nothing but the standard library, and so answers at once.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT_S = 3.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def why_not(page: str, host: str, port: int) -> str:
    """Return why one worker says no; empty when it says yes."""
    connection = HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"/{page}")
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace").strip()
    except (OSError, HTTPException) as error:
        return f"{host}, port {port}: {error}"
    finally:
        connection.close()
    return "" if answer.status == 200 else f"port {port}: {text}"


def main() -> int:
    """Ask every worker; the first that says no decides."""
    page, workers = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1
    host, port = os.environ.get("MUSE_HEALTH_HOST", ""), os.environ.get("MUSE_HEALTH_PORT", "")
    if not port.isdecimal():
        print("no MUSE_HEALTH_PORT: nothing to ask")
        return 0
    for worker in range(workers):
        if why := why_not(page, EVERYWHERE.get(host, host), int(port) + worker):
            print(f"worker {worker}: {why}")
            return 1
    print("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
