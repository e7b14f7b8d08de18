"""Models named by a URL: fetched from a real web server when a document is read, and needed by nobody afterwards."""

import shutil
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


def test_the_cache_of_fetched_files_is_bounded(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_IN_USE_S", 0.0)
    monkeypatch.setattr("muse_stream.environment.cache_bytes", lambda: 1)
    folder = tmp_path / "cache" / "fetched"
    folder.mkdir(parents=True)
    (folder / ("0" * 64)).write_bytes(b"old")
    load_document(document)
    assert [path.name for path in folder.iterdir()] == [load_document(document).document.models["blend"].sha256]
