"""A server whose flat pictures have recipes and masks, asked with and without a network."""

from __future__ import annotations

import base64
import contextlib
import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import uvicorn
from fastapi import FastAPI
from flat_drawer import PATIENCE, FlatDrawer
from PIL import Image
from starlette.testclient import TestClient

from apps.server.application import make_application
from apps.server.keys import Keys
from apps.server.service import Service, Terms
from ldm.images.metadata import format_parameters
from ldm.pipelines.batches import Place
from ldm.pipelines.progress import Picture, Progress
from ldm.pipelines.request import Request
from ldm.settings.samplers import SAMPLERS
from optimizedSD.web.limits import Limits


def opened(text: str) -> Image.Image:
    """Return the picture of an answer in base64."""
    return Image.open(io.BytesIO(base64.b64decode(text)))


def sent(image: Image.Image) -> str:
    """Return a picture as requests bring it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def colour_of(seed: int) -> tuple[int, int, int]:
    """Return the colour of the picture of a seed."""
    return seed % 251, seed // 251 % 251, 200


class RecordingDrawer(FlatDrawer):
    """Draws a picture in its seed's colour, where its mask allows.

    Attributes:
        drawn: All requests.
        gate: Cleared, pictures stay at a quarter of their steps.
    """

    def __init__(self) -> None:
        super().__init__()
        self.drawn: list[Request] = []

    def draw(self, requests: Sequence[Request], observer):
        self.drawn += requests
        while not self.gate.wait(0.01):
            observer(Progress(1, 4, 0, 1))
        for index, request in enumerate(requests):
            yield index, partial(recorded_picture, request)


def recorded_picture(request: Request) -> Picture:
    """Return the picture of a request."""
    settings, (height, width) = request.settings, request.final_size
    pixels = np.empty((1, height, width, 3), np.uint8)
    pixels[:] = colour_of(settings.seed)
    if request.image is not None:
        pixels = request.image.restore(pixels)
    said = {
        "Steps": settings.ddim_steps,
        "Sampler": SAMPLERS[settings.sampler].label,
        "Seed": settings.seed,
        "Size": f"{width}x{height}",
    }
    if request.templates:
        said["Template"] = request.templates[0]
    prompt, place = request.prompts[0], Place(0, 0, 1, 1)
    text = format_parameters(prompt, request.negative_prompts[0], said)
    return Picture(pixels[0], pixels[0], prompt, settings.seed, place, text)


def flat_service(**limits: int) -> tuple[Service, RecordingDrawer]:
    """Return a service that is not started yet, and what it draws with."""
    drawer = RecordingDrawer()
    given = {"side": 128, "pictures": 4, "steps": 50, **limits}
    return Service(lambda: drawer, Limits(**given), Terms(max_wait=0.0)), drawer


@contextlib.contextmanager
def asked(service: Service, keys: Keys | None = None) -> Iterator[TestClient]:
    """Ask a service's application without a network."""
    app = make_application(service, keys)
    with TestClient(app, "http://127.0.0.1:7860", raise_server_exceptions=False) as client:
        assert service.loaded.wait(PATIENCE)
        yield client


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """Serve an application on a free port of this machine, which is yielded."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            assert app.state.service.loaded.wait(PATIENCE)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
