"""Clients notice an answer that is not their own, and the report says what they saw."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

for name in ("fastapi", "uvicorn", "prometheus_client"):
    pytest.importorskip(name, reason="needs the server's packages: pip install -e '.[server]'")

from flat_drawer import FlatDrawer, flat_picture  # noqa: E402

from apps.line_bot.simulate.serving import Served  # noqa: E402
from apps.server.application import make_application  # noqa: E402
from apps.server.service import Service  # noqa: E402
from benchmarks import server_load  # noqa: E402
from benchmarks.server_clients import Client, Seen, jobs  # noqa: E402

EACH = 8  # how often a client asks


def asked(drawer: FlatDrawer, clients: int = 3) -> Seen:
    """Let clients ask a server that draws so."""
    service, seen = Service(lambda: drawer), Seen()
    served = Served(make_application(service))
    served.start()
    try:
        assert service.loaded.wait(20.0)
        begun = time.monotonic()
        pool, late = jobs(2, random.Random(0))[:4], begun + 60.0
        made = [
            Client(served.port, "", pool, seen, late, begun, random.Random(n), most=EACH)
            for n in range(clients)
        ]
        threads = [threading.Thread(target=client.run) for client in made]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    finally:
        served.end()
    return seen


def test_each_of_three_clients_gets_its_own_pictures():
    seen = asked(FlatDrawer())
    assert (len(seen.moments), seen.mixed_up, seen.faults) == (3 * EACH, 0, [])
    assert len(seen.waited) == len(seen.answered) == len(seen.moments)


class Mixing(FlatDrawer):
    """Draws pictures of another seed."""

    def draw(self, requests, observer):
        for index, request in enumerate(requests):
            other = replace(request.settings, seed=request.settings.seed + 1)
            yield index, partial(flat_picture, replace(request, settings=other))


class Changing(FlatDrawer):
    """Draws other pixels each time, with the right recipe."""

    count = 0

    def draw(self, requests, observer):
        for index, request in enumerate(requests):
            self.count += 1
            drawn = flat_picture(request)
            yield index, partial(replace, drawn, pixels=drawn.pixels + np.uint8(self.count))


@pytest.mark.parametrize("drawer", [Mixing, Changing])
def test_a_picture_that_is_anothers_or_differs_from_the_last_is_noticed(drawer):
    seen = asked(drawer())
    assert len(seen.moments) == 3 * EACH and seen.mixed_up > 0


def test_a_server_that_goes_away_is_a_fault_and_not_a_picture():
    seen = Seen()
    client = Client(1, "", jobs(2, random.Random(0)), seen, time.monotonic() + 60, 0.0,
                    random.Random(0))  # fmt: skip
    client.run()
    assert len(seen.faults) == 1 and seen.moments == []


def test_the_offline_rate_counts_whole_batches():
    pool = jobs(2, random.Random(0))
    drawer = FlatDrawer()
    rate = server_load._rate(drawer, {}, pool, 4, 0.05)
    assert rate > 0 and all(len(batch) == 4 for batch in drawer.batches)


def test_the_report_leaves_out_the_beginning_and_shows_memory_by_quarters():
    args = server_load.parse_args(["--minutes", "1", "--clients", "3"])
    seen = Seen(moments=[float(n) for n in range(60)], waited=[0.1] * 99 + [5.0], answered=[1.0])
    served = server_load.ServerProcess(None, 1, [(float(n), 2**20 * (n // 15)) for n in range(60)])
    text = "\n".join(server_load.report(args, {1: 0.5, 4: 1.0}, seen, served))
    assert "| 60 | 1.00 | 1.00 | 100.0% | met |" in text
    assert "| in the queue | 0.10 | 5.00 | 5.00 |" in text and "| 0 | 1 | 2 | 3 |" in text
    slow = "\n".join(server_load.report(args, {1: 2.0}, seen, served))
    assert "| 50.0% | not met |" in slow
