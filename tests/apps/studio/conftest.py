from __future__ import annotations

import threading

import pytest

from ldm.pipelines.pipeline import Pipeline
from optimizedSD.web.limits import Limits
from optimizedSD.web.worker import Worker


@pytest.fixture(scope="session")
def pipeline(tiny_ckpt):
    """The tiny model."""
    return Pipeline.load(tiny_ckpt, device="cpu")


@pytest.fixture
def queue(pipeline):
    """A queue in front of it."""
    made = Worker(pipeline, log_run=lambda settings: None)
    made.limit(Limits(waiting=3))
    yield made
    assert made.close(10.0), "a job still runs"


@pytest.fixture
def blocked(queue):
    """Somebody's job that lasts until the event is set."""
    released, begun = threading.Event(), threading.Event()

    class Waiting:
        seed, language = 0, "en"

        def do(self, desk):
            begun.set()
            assert released.wait(30)

    thread = threading.Thread(target=lambda: list(queue.draw("other", Waiting)))
    thread.start()
    assert begun.wait(30)
    yield released
    released.set()
    thread.join(30)
