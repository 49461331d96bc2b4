"""A server's model that draws flat pictures in no time: what is asked for is checked as ever."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from apps.server.application import make_application
from apps.server.keys import Keys
from apps.server.service import Service
from ldm.images.metadata import format_parameters
from ldm.pipelines.batches import Place
from ldm.pipelines.models import DEMO_CHECKPOINT, find_model
from ldm.pipelines.progress import Observer, Picture, Progress
from ldm.pipelines.request import Request, prepare
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.samplers import SAMPLERS
from optimizedSD.web.limits import Limits

ADDRESS = "http://127.0.0.1"


def colour_of(seed: int) -> tuple[int, int, int]:
    """Return the colour of the picture of a seed."""
    return seed % 251, seed // 251 % 251, 200


class FlatDrawer:
    """Draws a picture in its seed's colour; without a model, though its YAML is there.

    Attributes:
        drawn: All requests.
        gate: Cleared, it keeps pictures from being finished.
    """

    def __init__(self) -> None:
        self.choice = find_model(Txt2ImgSettings(ckpt=DEMO_CHECKPOINT))
        self.drawn: list[Request] = []
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, settings, image=None, mask=None) -> Request:
        return prepare(settings, self.choice, image=image, mask=mask)

    def notices(self, request: Request) -> Iterator[str]:
        return iter(())

    def group(self, request: Request) -> tuple[int, int]:
        return request.size

    def draw(self, requests: Sequence[Request], observer: Observer):
        self.drawn += requests
        for index, request in enumerate(requests):
            while not self.gate.wait(0.01):
                observer(Progress(1, 4, 0, 1))
            yield index, partial(self._picture, request)

    def _picture(self, request: Request) -> Picture:
        settings, (height, width) = request.settings, request.shown_size
        pixels = np.empty((height, width, 3), np.uint8)
        pixels[:] = colour_of(settings.seed)
        if request.image is not None:
            pixels = request.image.restore(pixels[None])[0]
        said = {
            "Steps": settings.ddim_steps,
            "Sampler": SAMPLERS[settings.sampler].label,
            "Seed": settings.seed,
            "Size": f"{width}x{height}",
        }
        text = format_parameters(settings.prompt, settings.negative_prompt, said)
        return Picture(pixels, pixels, settings.prompt, settings.seed, Place(0, 0, 1, 1), text)


def flat_service(**limits: int) -> tuple[Service, FlatDrawer]:
    """Return a service that is not started yet, and what it draws with."""
    drawer = FlatDrawer()
    given = {"side": 128, "pictures": 4, "steps": 50, **limits}
    return Service(lambda: drawer, Limits(**given)), drawer


@contextlib.contextmanager
def asked(service: Service, keys: Keys | None = None) -> Iterator[TestClient]:
    """Ask a service's application without a network."""
    app = make_application(service, keys)
    with TestClient(app, base_url=ADDRESS, raise_server_exceptions=False) as client:
        ready(service)
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
            ready(app.state.service)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(20)


def ready(service: Service) -> None:
    """Wait until a service's model is loaded."""
    while service.drawer is None and service.alive:
        time.sleep(0.01)
