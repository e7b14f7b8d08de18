"""Metrics are named by who reports them; a wrong report never raises."""

import logging
import threading

import pytest

from muse_stream.telemetry import Family, Metrics


def test_counter_gauge_and_histogram_by_the_method_that_is_called() -> None:
    metrics = Metrics(describe={"muse_events_total": "Events scored"}, buckets={"muse_batch_events": (10, 100)})
    metrics.count("muse_events_total", 5, tenant="acme")
    metrics.count("muse_events_total", tenant="acme")
    metrics.gauge("muse_generation", 3)
    metrics.observe("muse_batch_events", 50)
    metrics.observe("muse_commit_seconds", 0.02, outcome="ok")
    text = metrics.text().decode()
    assert "# HELP muse_events_total Events scored" in text
    assert 'muse_events_total{tenant="acme"} 6.0' in text
    assert "muse_generation 3.0" in text
    assert 'muse_batch_events_bucket{le="100.0"} 1.0' in text
    assert 'muse_commit_seconds_bucket{le="0.03",outcome="ok"} 1.0' in text


def test_process_and_build_are_always_there() -> None:
    text = Metrics(version="1.2.3").text().decode()
    assert 'muse_build_info{version="1.2.3"} 1.0' in text
    assert "process_resident_memory_bytes" in text


def test_wrong_reports_are_logged_once_and_dropped(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.count("muse_events_total", tenant="acme")
    with caplog.at_level(logging.WARNING, logger="muse_stream.metrics"):
        metrics.gauge("muse_events_total", 1, tenant="acme")
        metrics.count("muse_events_total", role="live")
        metrics.count("muse_events_total", -1, tenant="acme")
        metrics.count("muse_other_total", __reserved="x")
    said = [record.__dict__["metric"] for record in caplog.records]
    assert said == ["muse_events_total", "muse_other_total"]
    assert 'muse_events_total{tenant="acme"} 1.0' in metrics.text().decode()


def test_first_report_from_many_threads_is_one_metric() -> None:
    metrics, ready = Metrics(), threading.Barrier(8)

    def report() -> None:
        ready.wait()
        for _ in range(50):
            metrics.count("muse_events_total", tenant="acme")

    threads = [threading.Thread(target=report) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 'muse_events_total{tenant="acme"} 400.0' in metrics.text().decode()


def test_families_are_shown_as_they_are_when_somebody_asks() -> None:
    """Their series come and go; a counter gets its suffix, and the help of its name."""
    metrics = Metrics(describe={"muse_scores": "Scores given"})
    series = {("acme", "a"): 3.0}
    metrics.show(lambda: [Family("counter", "muse_scores", ("tenant", "predictor"), list(series.items()))])
    metrics.show(lambda: [Family("gauge", "muse_paused", ("tenant",), [(("acme",), 1.0)])])
    text = metrics.text().decode()
    assert "# HELP muse_scores_total Scores given" in text
    assert 'muse_scores_total{predictor="a",tenant="acme"} 3.0' in text
    assert 'muse_paused{tenant="acme"} 1.0' in text
    series.clear()
    assert "acme" not in metrics.text().decode().replace('muse_paused{tenant="acme"}', "")


def test_families_that_raise_are_said_once_and_the_others_shown(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.gauge("muse_generation", 3)

    def broken() -> list[Family]:
        raise RuntimeError("no")

    metrics.show(broken)
    with caplog.at_level(logging.WARNING, logger="muse_stream.metrics"):
        texts = [metrics.text().decode() for _ in range(2)]
    assert all("muse_generation 3.0" in text for text in texts)
    assert len(caplog.records) == 1
