from __future__ import annotations

import threading
from pathlib import Path

import pytest
from adapter_shelves import random_control
from ip_files import base_state, full_state
from safetensors.torch import save_file

from apps.studio.queue import Queue
from ldm.pipelines import adapter_files
from ldm.pipelines.pipeline import Pipeline
from optimizedSD.web.limits import Limits


@pytest.fixture(scope="session")
def pipeline(tiny_ckpt):
    """The tiny model."""
    return Pipeline.load(tiny_ckpt, device="cpu")


@pytest.fixture
def queue(pipeline):
    """A queue in front of it."""
    made = Queue(pipeline, log_run=lambda settings: None)
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


@pytest.fixture
def shelf(tmp_path, monkeypatch, pipeline):
    """A shelf with a ControlNet, two IP-Adapters, one that needs CLIP, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapter_files, "ROOT", Path("elsewhere"))
    folder = tmp_path / "models/controlnet"
    (folder / "old").mkdir(parents=True)
    save_file(random_control(pipeline.model), folder / "net.safetensors")
    save_file(base_state(), folder / "ip.safetensors")
    save_file(full_state(), folder / "own.safetensors", {"image_encoder": "unet 4"})
    (folder / "text.pth").write_text("nothing")
    return folder
