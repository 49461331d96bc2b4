"""How far a run is, and what Prometheus is told."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import pytest

from ldm.errors import UserError
from ldm.jobs.progress import Meter, served
from ldm.jobs.records import Record


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_meter_counts_pictures_errors_and_speed():
    clock = Clock()
    meter = Meter(10, clock)
    assert (meter.left, meter.speed) == (10, 0.0)
    for number in range(4):
        clock.now += 0.5
        meter.add(Record(number, "", "0000/a.png", size=10, seconds=0.25))
    meter.add(Record(4, "", error="broken"))
    assert (meter.pictures, meter.errors, meter.done, meter.left) == (4, 1, 5, 5)
    assert (meter.size, meter.seconds) == (40, 1.0)
    assert meter.speed == pytest.approx(2.5)


def test_the_speed_is_that_of_the_last_pictures():
    clock = Clock()
    meter = Meter(10_000, clock)
    for seconds in (10.0, 0.1):
        for number in range(300):
            clock.now += seconds
            meter.add(Record(number, "", "a.png"))
    assert meter.speed == pytest.approx(10.0)


def test_counters_are_served_to_this_machine_alone():
    meter = Meter(3)
    meter.add(Record(0, "", "a.png", size=7))
    with served(meter, 0) as port:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            kind, lines = answer.headers["Content-Type"], answer.read().decode().splitlines()
        assert kind.startswith("text/plain; version=0.0.4")
        assert {"ldm_batch_pictures_total 1", "ldm_batch_queue 2", "ldm_batch_bytes_total 7"} <= {
            *lines
        }
        assert "# TYPE ldm_batch_pictures_total counter" in lines
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/etc/passwd")
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")


def test_counters_keep_all_their_digits():
    meter = Meter(3_000_000)
    meter.pictures, meter.size, meter.seconds = 1_234_567, 123_456_789_012, 1_234_567.25
    lines = meter.metrics().splitlines()
    assert {
        "ldm_batch_pictures_total 1234567",
        "ldm_batch_queue 1765433",
        "ldm_batch_bytes_total 123456789012",
        "ldm_batch_drawing_seconds_total 1234567.25",
    } <= {*lines}


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match="--metrics_port"), served(Meter(1), port):
            pass
