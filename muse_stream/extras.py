"""Which extra of this package brings what is not installed.

The library itself is what scores and what workers run. The program, the test kit, the demo and training need more, and
say so where it is missing.
"""

from collections.abc import Mapping

from muse_stream.errors import MuseError

EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(("rich", "typer"), "cli"),
    **dict.fromkeys(("jinja2", "markupsafe", "matplotlib"), "report"),
    "redis": "redis",
    **dict.fromkeys(("attr", "authlib", "cachetools", "certifi", "httpx2"), "registry"),
    "cryptography": "signing",
    "datasketches": "calibrate",
    "llvmlite": "compiled",
    "opentelemetry": "tracing",
    **dict.fromkeys(("aiohttp", "fsspec", "gcsfs", "s3fs"), "remote"),
    **dict.fromkeys(("docker", "requests", "testcontainers"), "testing"),
    **dict.fromkeys(("lightgbm", "onnxmltools", "skl2onnx", "sklearn", "threadpoolctl"), "train"),
}
"""Imported package -> extra."""


class MissingExtra(MuseError):
    """A part of this package was asked for that needs an extra; the text says how to install it."""


def missing_extra(error: ModuleNotFoundError) -> MissingExtra | None:
    """Return what to install where an import failed for lack of an extra, None for any other import."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRAS.get(package)
    return MissingExtra(f"{package} is not installed: pip install 'muse-stream[{extra}]'") if extra else None
