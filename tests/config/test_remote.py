"""Models named by a URL: fetched from a real web server when a document is read, and needed by nobody afterwards."""

import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import muse_stream
from muse_stream.config import load_document, remote
from muse_stream.control import DirectoryStore, Store, open_store
from muse_stream.errors import ConfigError
from muse_stream.testing import Redis
from tests.certificates import make_certificates
from tests.patience import PATIENCE

EXAMPLE = Path(__file__).parents[2] / "deploy" / "config"
# aiohttp's sessions are closed by fsspec when they are collected, which may be later than the test's end
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


class Quiet(SimpleHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        super().do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Web:
    """A web server over a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.handler: type[Quiet] = type("Handler", (Quiet,), {})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(self.handler, directory=str(folder)))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def encrypt(self, context: ssl.SSLContext) -> None:
        """From now on, TLS; a handshake that a client breaks off is its own affair."""
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    """A server of the example's models."""
    running = Web(Path(shutil.copytree(EXAMPLE / "models", tmp_path / "web")))
    yield running
    running.stop()


@pytest.fixture
def document(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example with a model of that server, and an empty cache."""
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "cache"))
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "config"))
    path = folder / "muse.yaml"
    path.write_text(path.read_text().replace("uri: models/blend.onnx", f"uri: {web.url}/blend.onnx"))
    (folder / "models" / "blend.onnx").unlink()
    return path


@pytest.mark.parametrize("kind", ["directory", "redis"])
def test_a_generation_holds_what_was_fetched(
    document: Path, web: Web, tmp_path: Path, request: pytest.FixtureRequest, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever opens it needs neither the server nor the publisher's cache."""
    store: Store = DirectoryStore(tmp_path / "store")
    if kind == "redis":
        redis: Redis = request.getfixturevalue("redis")
        monkeypatch.setattr("muse_stream.control.redis_address.TIMEOUT_S", 60.0)  # of a busy machine
        store = open_store(f"{redis.url}?prefix={request.getfixturevalue('unique')('muse')}")
    number = store.publish(load_document(document))
    web.stop()
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setenv("MUSE_CACHE_DIR", str(tmp_path / "another machine"))
    if kind == "redis":
        store = open_store(f"{redis.url}?prefix={str(store).partition('prefix=')[2]}")
    assert "blend" in str(muse_stream.load(store.open(number).path).predictors)


def test_it_is_fetched_once(document: Path, web: Web) -> None:
    for _ in range(3):
        load_document(document)
    assert web.handler.asked == 1


def test_a_copy_that_was_damaged_is_fetched_again(document: Path, web: Web, tmp_path: Path) -> None:
    load_document(document)
    (copy,) = (tmp_path / "cache" / "fetched").iterdir()
    content = copy.read_bytes()
    copy.write_bytes(content[:-1])
    load_document(document)
    assert copy.read_bytes() == content
    assert web.handler.asked == 2


def refused(document: Path) -> str:
    with pytest.raises(ConfigError) as error:
        load_document(document)
    (problem,) = error.value.problems
    assert problem.path == "models.blend.uri"
    assert problem.line
    return str(problem)


def test_another_file_than_the_one_pinned_is_refused(document: Path, web: Web, tmp_path: Path) -> None:
    (web.folder / "blend.onnx").write_bytes(b"changed")
    assert "is another file than the one pinned" in refused(document)
    assert not list((tmp_path / "cache" / "fetched").iterdir())


def test_a_file_that_is_not_there_is_refused(document: Path, web: Web) -> None:
    (web.folder / "blend.onnx").unlink()
    assert "cannot be fetched: FileNotFoundError" in refused(document)


def test_a_server_that_is_away_is_refused(document: Path, web: Web) -> None:
    web.stop()
    assert "cannot be fetched" in refused(document)


def test_what_clients_of_storage_log_is_not_shown(document: Path, web: Web) -> None:
    """gcsfs logs each failure with its traceback, which Python prints where nobody handles it."""
    program = (
        "import logging, sys; from pathlib import Path; from muse_stream.config import load_document; "
        "load_document(Path(sys.argv[1])); "
        "[logging.getLogger(f'{name}.core').error('Traceback') for name in ('fsspec', 'gcsfs', 's3fs')]"
    )
    done = subprocess.run([sys.executable, "-c", program, str(document)], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_file_that_is_too_large_is_refused(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BLOCK", 64)
    text = document.read_text()
    assert "model_bytes" in text
    with pytest.raises(remote.NotFetched, match="has more than 100 bytes"):
        remote.fetch(document.parent, url_of(document), "0" * 64, 100)


def url_of(document: Path) -> str:
    return load_document(document).document.models["blend"].uri


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:///etc/passwd", "is not fetched"),
        ("FILE:///etc/passwd", "is not fetched"),
        ("local:///etc/passwd", "is not fetched"),
        ("simplecache::file:///etc/passwd", "plain relative path"),
        ("zip://x::file:///etc/passwd", "is not fetched"),
        ("nosuch://host/model", "Protocol not known"),
        ("s3://bucket/model", "pip install 'muse-stream[remote]'"),
    ],
)
def test_what_is_not_fetched_is_told(document: Path, web: Web, uri: str, said: str) -> None:
    document.write_text(document.read_text().replace(f"{web.url}/blend.onnx", uri))
    assert said in refused(document)


@pytest.mark.parametrize(
    "uri",
    [
        "https://reader:SECRET@host/blend.onnx",
        "https://SECRET@host/blend.onnx",
        "s3://KEY:SECRET@bucket/blend.onnx",
        "https://bucket.s3.amazonaws.com/blend.onnx?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=SECRET",
        "https://storage.googleapis.com/b/blend.onnx?X-Goog-Signature=SECRET",
        "https://account.blob.core.windows.net/b/blend.onnx?sv=2024&sig=SECRET",
        "https://host/blend.onnx?version=3&token=SECRET",
    ],
)
def test_a_url_that_carries_a_secret_is_refused_and_not_shown(document: Path, web: Web, uri: str) -> None:
    """A generation is read by every worker, and kept."""
    document.write_text(document.read_text().replace(f"{web.url}/blend.onnx", uri))
    said = refused(document)
    assert "models.blend.uri" in said
    assert "carries a secret" in said
    assert "SECRET" not in said


@pytest.mark.parametrize("uri", ["abfs://container@account.dfs.core.windows.net/m", "https://host/m?version=3"])
def test_a_url_without_a_secret_is_none(document: Path, web: Web, uri: str) -> None:
    document.write_text(document.read_text().replace(f"{web.url}/blend.onnx", uri))
    assert "carries a secret" not in refused(document)


@pytest.mark.long  # two starts of the program, whose trust is set in its environment; without TLS above
def test_https_checks_the_certificate_of_the_server(document: Path, web: Web, tmp_path: Path) -> None:
    """With the CA the file is fetched and published; a server that nobody vouches for is refused, and named."""
    make_certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    web.encrypt(context)
    document.write_text(document.read_text().replace("http://", "https://"))
    store = tmp_path / "store"
    command = [sys.executable, "-m", "muse_stream", "publish", str(document), "--store", str(store), "--yes"]
    given = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}

    def publish(**trusted: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=given | trusted, capture_output=True, text=True, check=False, timeout=60 * PATIENCE
        )

    alone = publish()
    assert alone.returncode == 2
    assert "blend.onnx' cannot be fetched" in " ".join(alone.stderr.split())
    assert "CERTIFICATE_VERIFY_FAILED" in alone.stderr
    assert "Traceback" not in alone.stderr
    done = publish(SSL_CERT_FILE=str(tmp_path / "ca.pem"))
    assert done.returncode == 0, done.stderr
    opened = open_store(store)
    assert opened.open(1).path.parent.joinpath("fetched", sha256_of(document)).is_file()


def sha256_of(document: Path) -> str:
    found = re.search(r"blend\.onnx\s+sha256: ([0-9a-f]{64})", document.read_text())
    assert found is not None
    return found[1]


def test_the_cache_of_fetched_files_is_bounded(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_IN_USE_S", 0.0)
    monkeypatch.setattr("muse_stream.environment.cache_bytes", lambda: 1)
    folder = tmp_path / "cache" / "fetched"
    folder.mkdir(parents=True)
    (folder / ("0" * 64)).write_bytes(b"old")
    load_document(document)
    assert [path.name for path in folder.iterdir()] == [load_document(document).document.models["blend"].sha256]
