"""One port for a run: what its workers say, as one."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from multiprocessing import active_children

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from muse_stream.errors import MuseError
from muse_stream.runtime import run_pages
from muse_stream.runtime.run_pages import RunPages
from muse_stream.telemetry import HealthServer

Say = Callable[[], bool | str]


def yes() -> bool:
    return True


def registry(slot: int) -> CollectorRegistry:
    found = CollectorRegistry()
    Counter("muse_events", "Events\nand more", registry=found).inc(10 + slot)
    Histogram("muse_x_seconds", "Time", buckets=(1.0,), registry=found).observe(slot)
    Gauge("muse_worker_info", "Which", ("role", "slot"), registry=found).labels("live", str(slot)).set(1)
    tenants = Gauge("muse_tenant_paused", "Paused", ("tenant",), registry=found)
    tenants.labels('a "quoted", {odd}=name').set(slot)
    return found


@contextmanager
def workers(*said: tuple[Say, Say, Say]) -> Iterator[RunPages]:
    """Pages of workers on neighbouring ports; what each says of started, ready and live."""
    for first in range(20_000, 30_000, 100):
        with ExitStack() as stack:
            try:
                for slot, (started, ready, live) in enumerate(said):
                    server = HealthServer(first + slot, live, ready, registry(slot), started=started)
                    stack.callback(server.stop)
                    server.start()
            except OSError:
                continue
            yield RunPages("0.0.0.0", first, lambda: len(said))  # noqa: S104
            return
    raise AssertionError("no free ports")


def get(port: int, page: str) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", page)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_every_series_has_its_slot_and_a_family_stands_together() -> None:
    with workers((yes, yes, yes), (yes, yes, yes)) as pages:
        families = {family.name: family for family in text_string_to_metric_families(pages.metrics())}
    events = {sample.labels["slot"]: sample.value for sample in families["muse_events"].samples}
    assert events == {"0": 10.0, "1": 11.0}
    assert families["muse_events"].documentation == "Events\nand more"
    assert families["muse_x_seconds"].type == "histogram"
    assert {s.labels["slot"] for s in families["muse_x_seconds"].samples} == {"0", "1"}
    info = [sample.labels for sample in families["muse_worker_info"].samples]
    assert info == [{"role": "live", "slot": "0"}, {"role": "live", "slot": "1"}], "it has one of its own"
    odd = [sample.labels["tenant"] for sample in families["muse_tenant_paused"].samples]
    assert odd == ['a "quoted", {odd}=name'] * 2
    assert {s.labels["slot"]: s.value for s in families[run_pages.UP].samples} == {"0": 1.0, "1": 1.0}


def test_one_worker_that_says_no_is_named() -> None:
    with workers((yes, yes, yes), (lambda: "opening its Kafka clients", lambda: "draining", lambda: "stuck")) as pages:
        assert pages.started() == "worker 1: opening its Kafka clients"
        assert pages.ready() == "worker 1: draining"
        assert pages.live() == "worker 1: stuck"


def test_a_worker_that_is_being_replaced_makes_a_run_unready_but_not_dead() -> None:
    with workers((yes, yes, yes)) as pages:
        pages._workers = lambda: 2
        assert (pages.live(), pages.ready(), pages.started()) == (True, *["worker 1: does not answer"] * 2)
        families = {family.name: family for family in text_string_to_metric_families(pages.metrics())}
    assert {s.labels["slot"]: s.value for s in families[run_pages.UP].samples} == {"0": 1.0, "1": 0.0}


def test_the_pages_are_those_of_as_many_workers_as_there_are_now() -> None:
    with workers((yes, yes, yes), (yes, lambda: "draining", yes)) as pages, HealthServer(0, yes, yes) as other:
        port = other.port
        other.stop()
        with run_pages.served("127.0.0.1", port, pages._port, 2, ("live", "main", "here")) as scaled:
            assert get(port, "/ready") == (503, "worker 1: draining\n")
            assert 'muse_events_total{slot="1"} 11.0' in get(port, "/metrics")[1]
            scaled(1)
            assert get(port, "/ready") == (200, "ok\n")
            assert 'slot="1"' not in get(port, "/metrics")[1]
    assert not [child for child in active_children() if child.name == "muse-pages"]


def test_a_port_that_is_taken_ends_the_run_with_its_reason() -> None:
    with HealthServer(0, yes, yes) as taken:
        served = run_pages.served("127.0.0.1", taken.port, 20_000, 1, ("live", "main", "here"))
        with pytest.raises(MuseError, match=f"cannot listen on 127.0.0.1, port {taken.port}"), served:
            raise AssertionError("not reached")
