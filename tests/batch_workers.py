"""Workers without a model, for the engines' tests: a picture's colour is its seed.

What a prompt says is done: ``die`` kills the process as kill -9 does, ``die once PATH`` does so
unless the path is there, ``fail`` raises, ``wait PATH`` goes on when the path is there.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np

from ldm.errors import UserError
from ldm.jobs.worker import Worker
from ldm.pipelines.batches import Place
from ldm.pipelines.progress import Notice, Picture


class PaintingWorker(Worker):
    """Paints instead of drawing."""

    pipeline = None

    def load(self):
        pass

    def _draw(self, jobs):
        for job in jobs:
            obey(job.values["prompt"])
            self._write(job, partial(painted, job), 0.01)


class TalkingWorker(PaintingWorker):
    """Says more with each bucket than a pipe holds."""

    def _draw(self, jobs):
        for n in range(500):
            self._observer(Notice(f"{jobs[0].number} {n} " * 500))
        super()._draw(jobs)


class DyingWorker(PaintingWorker):
    """Dies before it is ready."""

    def load(self):
        os.kill(os.getpid(), signal.SIGKILL)


class RefusingWorker(PaintingWorker):
    """Cannot load its model."""

    def load(self):
        raise UserError("the checkpoint lacks weights")


def obey(prompt):
    word, _, path = prompt.rpartition(" ")
    if prompt == "die" or (word == "die once" and not Path(path).exists()):
        if word:
            Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    while word == "wait" and not Path(path).exists():
        time.sleep(0.01)


def painted(job):
    if job.values["prompt"] == "fail":
        raise ValueError("no paint")
    pixels = np.full((4, 4, 3), job.values["seed"] % 256, np.uint8)
    place = Place(0, 0, 1, 1)
    return Picture(pixels, pixels, job.values["prompt"], job.values["seed"], place, "")
