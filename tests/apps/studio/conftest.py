from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from adapter_shelves import random_control
from browsing import visiting
from ip_files import base_state, full_state
from running import ROOT
from safetensors.torch import save_file

from ldm.pipelines import adapter_files
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


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    """The studio's port and folder."""
    folder = tmp_path_factory.mktemp("studio")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    flags = ("--device", "cpu", "--port", str(port), "--outdir", "out", "--max_steps", "500")
    process = subprocess.Popen(
        [sys.executable, "-m", "apps.studio", *flags],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert any(f"http://127.0.0.1:{port}/" in line for line in iter(process.stdout.readline, ""))
    yield port, folder
    process.terminate()  # as a container does
    assert process.wait(timeout=60) == 0


@pytest.fixture
def visit(browser, served):
    """Return a function that opens the studio; nothing on it may come from other machines."""
    with visiting(browser) as visit:
        yield partial(visit, served[0], "#text-draw")
