"""The program: `muse-stream`, or `python -m muse_stream`.

Imports nothing but the standard library before it knows that the extra `cli` is installed.
"""

import sys
from collections.abc import Sequence

from muse_stream.extras import missing_extra


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        from muse_stream.cli.main import main as program  # noqa: PLC0415
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        print(f"Error: {missing}", file=sys.stderr)
        return missing.exit_code
    return program(arguments)


if __name__ == "__main__":
    sys.exit(main())
