"""Stands in for a model in tests of the server: one colour each, drawn when a test says so."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cache, partial

import numpy as np

from apps.server.drawing import said_of
from ldm.pipelines.batches import Place
from ldm.pipelines.grouping import group_of
from ldm.pipelines.models import ModelChoice, find_model
from ldm.pipelines.progress import Notice, Picture, Progress
from ldm.pipelines.request import prepare
from ldm.settings.generation import Txt2ImgSettings

PATIENCE = 20.0  # seconds until a test that waits in vain fails


@cache
def demo_choice() -> ModelChoice:
    """Return the bundled model's description; its weights are not read."""
    return find_model(Txt2ImgSettings(ckpt="models/ldm/demo/model.safetensors"))


class FlatDrawer:
    """Draws as the server's ``Drawer``.

    Attributes:
        gate: Closed (cleared), a batch waits before its first step.
        at_once: How many batches it draws at a time.
        batches: The prompts of each batch that was begun.
        steps: How many steps were taken, of all batches.
        says: Notices of each batch.
        fails: Called with the requests of each batch; may raise.
    """

    def __init__(self, choice: ModelChoice | None = None) -> None:
        self.choice = choice or demo_choice()
        self.gate = threading.Event()
        self.gate.set()
        self.at_once = 1
        self.batches: list[list[str]] = []
        self.steps = 0
        self.says: list[str] = []
        self.fails = lambda requests: None
        self._begun = threading.Condition()

    def prepare(self, settings, image=None, mask=None):
        return prepare(settings, self.choice, image=image, mask=mask)

    def notices(self, request) -> Iterator[str]:
        return said_of(request)

    def group(self, request):
        return group_of(request)

    def draw(self, requests, observer):
        with self._begun:
            self.batches.append([request.prompts[0] for request in requests])
            self._begun.notify_all()
        assert self.gate.wait(PATIENCE)
        self.fails(requests)
        for text in self.says:
            observer(Notice(text, warning=True))
        count = len(requests)
        steps = requests[0].settings.ddim_steps
        for step in range(1, steps + 1):
            observer(Progress(step * count, steps * count, 0, count))
            self.steps += 1
        for index, request in enumerate(requests):
            yield index, partial(flat_picture, request)

    def wait_for_batches(self, count: int) -> list[list[str]]:
        """Return what has been begun, once there are so many batches."""
        with self._begun:
            assert self._begun.wait_for(lambda: len(self.batches) >= count, PATIENCE)
            return list(self.batches)


def flat_picture(request) -> Picture:
    """Return a picture whose colour follows from its seed, as its recipe says."""
    height, width = request.size
    seed, prompt = request.settings.seed, request.prompts[0]
    pixels = np.full((height, width, 3), seed % 256, np.uint8)
    place = Place(0, 0, 1, 1)
    recipe = f"{prompt}\nSteps: 1, CFG scale: {request.settings.scale}, Seed: {seed}"
    return Picture(pixels, pixels, prompt, seed, place, recipe)
