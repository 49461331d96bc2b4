from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.staging import Staging


@pytest.fixture(scope="session")
def pipeline(tiny_ckpt):
    """The tiny model, its parts taking turns, as pages load it."""
    return Pipeline.load(tiny_ckpt, device="cpu", staging=Staging())


@pytest.fixture(scope="session")
def picture():
    """A picture of 16x12 pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def painted(picture):
    """What the editor holds of that picture after a stroke over its middle."""
    layer = np.zeros((12, 16, 4), np.uint8)
    layer[4:8, 6:12] = 255
    stroke = Image.fromarray(layer)
    background = picture.convert("RGBA")
    composite = Image.alpha_composite(background, stroke)
    return {"background": background, "layers": [stroke], "composite": composite}


@pytest.fixture(scope="module")
def served(pipeline, tmp_path_factory):
    """Return a function that serves a page, once, and returns its address and folder."""
    from optimizedSD.web.server import launch
    from optimizedSD.web.worker import Worker

    begun, patch = {}, pytest.MonkeyPatch()

    def serve(page):
        name = page.server.program
        if name not in begun:
            folder = tmp_path_factory.mktemp("page")
            patch.setenv("GRADIO_TEMP_DIR", "")  # to be restored, whatever `launch` sets
            patch.setenv("GRADIO_ANALYTICS_ENABLED", "")
            server = page.server(port=free_port(), outdir=str(folder / "out"))
            worker = Worker(pipeline, log_run=lambda settings: None)
            begun[name] = launch(page, server, worker, "tiny", str(folder / "cache")), server
        blocks, server = begun[name]
        return blocks.local_url, Path(server.outdir)

    yield serve
    for blocks, _ in begun.values():
        blocks.close(verbose=False)
    patch.undo()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def ask(served, pipeline):
    """Return a function that draws on a page and returns what it finally shows.

    It takes the values of what the page has beside its controls, and changes of those.
    """
    gradio_client = pytest.importorskip("gradio_client")
    from optimizedSD.web.edit_handlers import EditHandlers
    from optimizedSD.web.handlers import OUTPUTS
    from optimizedSD.web.layout import controls_of

    def ask(page, *others, **changes):
        url, _ = served(page)
        held = {field.name: field.value for field in controls_of(page, pipeline.choice)}
        held |= {"ddim_steps": 4, "seed": "7"} | changes
        client = gradio_client.Client(url, verbose=False, download_files=False)
        answer = list(client.predict(*others, *held.values(), api_name="/draw"))
        names = list(EditHandlers.outputs if page.edits else OUTPUTS)
        names.remove("stored")  # never leaves the server
        return dict(zip(names, answer, strict=True))

    return ask
