"""The health pages say yes, no and why; nothing about them can hold a process up."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry, Gauge

from muse_stream.telemetry import HealthServer
from muse_stream.telemetry.health import Question, check_address


def fetch(server: HealthServer, path: str, method: str = "GET", host: str = "127.0.0.1") -> tuple[int, str]:
    connection = HTTPConnection(host, server.port, timeout=60)
    connection.request(method, path)
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What stands on stderr, but for what Kafka's clients of other tests may write there at any time."""
    return [line for line in capfd.readouterr().err.splitlines() if not line.startswith("%")]


def yes() -> bool:
    return True


def no() -> bool:
    return False


def stuck() -> str:
    return "no progress for 21 s while lag is 300"


def raising() -> bool:
    raise RuntimeError("broken inside")


@pytest.mark.parametrize(
    ("ready", "status", "body"),
    [
        (yes, 200, "ok\n"),
        (no, 503, "no\n"),
        (stuck, 503, "no progress for 21 s while lag is 300\n"),
        (raising, 503, "the question itself failed: RuntimeError: broken inside\n"),
    ],
)
def test_ready_says_yes_or_why_not(ready: Question, status: int, body: str) -> None:
    with HealthServer(0, yes, ready) as server:
        assert fetch(server, "/ready") == (status, body)
        assert fetch(server, "/live") == (200, "ok\n")


def test_answer_is_asked_anew_each_time() -> None:
    answers: Iterator[bool | str] = iter([True, "draining", True])
    with HealthServer(0, yes, lambda: next(answers)) as server:
        assert [fetch(server, "/ready")[0] for _ in range(3)] == [200, 503, 200]


def test_metrics_and_other_pages() -> None:
    registry = CollectorRegistry()
    Gauge("muse_generation", "Generation that answers now", registry=registry).set(3)
    with HealthServer(0, yes, yes, registry) as server:
        status, body = fetch(server, "/metrics")
        assert (status, "muse_generation 3.0" in body) == (200, True)
        assert fetch(server, "/metrics", "HEAD") == (200, "")
        assert fetch(server, "/ready?verbose=1")[0] == 200
        assert fetch(server, "/ready", "HEAD") == (200, "")
        assert fetch(server, "/admin")[0] == 404
        assert fetch(server, "/ready", "POST")[0] == 501


def test_metrics_that_cannot_be_shown_say_why(capfd: pytest.CaptureFixture[str]) -> None:
    gauge = Gauge("muse_age_seconds", "Age", registry=(registry := CollectorRegistry()))
    gauge.set_function(lambda: 1 / 0)
    with HealthServer(0, yes, yes, registry) as server:
        assert fetch(server, "/metrics") == (500, "ZeroDivisionError: division by zero\n")
    assert said(capfd) == [], "stderr is for the log"


def test_a_client_that_hangs_up_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with HealthServer(0, yes, yes) as server:
        for request in (b"GET /live HTTP/1.0\r\n\r\n", b"GET", b""):
            client = socket.create_connection(("127.0.0.1", server.port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not a farewell
            client.sendall(request)
            client.close()
        assert fetch(server, "/live") == (200, "ok\n")
    assert said(capfd) == []


def test_listens_on_loopback_only_unless_told() -> None:
    with HealthServer(0, yes, yes) as server:
        assert server.host == "127.0.0.1"


EVERYWHERE = "0.0.0.0"  # noqa: S104  # that is what is tested
IPV6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")


@pytest.mark.parametrize(
    ("host", "answers", "silent"),
    [
        ("127.0.0.1", ["127.0.0.1"], ["127.0.0.2"]),
        ("localhost", ["127.0.0.1"], ["127.0.0.2"]),
        (EVERYWHERE, ["127.0.0.1", "127.0.0.2"], []),
        pytest.param("::", ["127.0.0.1", "127.0.0.2", "::1"], [], marks=IPV6),
        pytest.param("::1", ["::1"], ["127.0.0.1"], marks=IPV6),
    ],
)
def test_listens_where_it_is_told(host: str, answers: list[str], silent: list[str]) -> None:
    """127.0.0.2 stands for any other address of this machine."""
    with HealthServer(0, yes, yes, host=host) as server:
        for address in answers:
            assert fetch(server, "/ready", host=address) == (200, "ok\n"), address
        for address in silent:
            with pytest.raises(OSError, match="refused"):
                fetch(server, "/ready", host=address)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-name.invalid", "fe80::1::1"])
def test_an_address_that_is_not_this_machine_s_is_an_error(host: str) -> None:
    with pytest.raises(OSError, match=r"."):
        check_address(host)


def test_no_name_is_looked_up_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pod without DNS that takes seconds, and the pages are needed at once."""

    def lookup(*_: object) -> str:
        raise AssertionError("asked the DNS for this machine's name")

    monkeypatch.setattr(socket, "getfqdn", lookup)
    monkeypatch.setattr(socket, "gethostbyaddr", lookup)
    HealthServer(0, yes, yes, host=EVERYWHERE).stop()


def test_port_in_use_is_said_at_once_and_a_stopped_port_is_free() -> None:
    with HealthServer(0, yes, yes) as server:
        port = server.port
        with pytest.raises(OSError, match="in use"):
            HealthServer(port, yes, yes)
    with HealthServer(port, yes, yes) as again:
        assert fetch(again, "/live") == (200, "ok\n")


def test_silent_client_and_hanging_question_hold_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    hang = threading.Event()

    def hanging() -> bool:
        return hang.wait(250)

    server = HealthServer(0, yes, hanging)
    server.start()
    silent = socket.create_connection(("127.0.0.1", server.port))
    asking = socket.create_connection(("127.0.0.1", server.port))
    asking.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
    assert fetch(server, "/live")[0] == 200
    before = time.monotonic()
    server.stop()
    assert time.monotonic() - before < 100  # the question hangs for 250 s
    hang.set()
    silent.close()
    asking.close()


def test_stop_without_start_frees_the_port() -> None:
    server = HealthServer(0, yes, yes)
    stop: Callable[[], None] = server.stop
    stop()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)
