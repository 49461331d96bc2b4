"""From a job to pictures by ``Pipeline``: the model is loaded once, its stages take turns."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from apps.line_bot.jobs import Job, Queue, Task
from apps.line_bot.line_api import LineApi
from apps.line_bot.settings import BotSettings
from apps.line_bot.worker import BadPhoto, NotNow
from ldm.atomic import replacing
from ldm.errors import UserError
from ldm.images.io import load_image, save_picture
from ldm.pipelines.models import ModelChoice, choose_model
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice, Progress
from ldm.pipelines.staging import Staging
from ldm.settings.low_memory import (
    HIGHEST_RANDOM_SEED,
    LowMemoryImg2ImgSettings,
    LowMemoryTxt2ImgSettings,
)
from ldm.settings.option import options_of

# How much of a picture is drawn anew, by what it is started from.
STRENGTHS = {"photo": 0.65, "variation": 0.55, "larger": 0.35}
LARGER = 2  # times each side
SIDES = 2  # times the model's own side, where the operator gives no limit
LARGEST_PHOTO = 20 * 2**20  # bytes
CHECKS = 0.25  # seconds between looks whether a job is still wanted


def model_for(settings: BotSettings) -> ModelChoice:
    """Find the model; its weights are not loaded yet.

    Raises:
        UserError: there is none, or a setting does not suit it.
    """
    fixed = LowMemoryTxt2ImgSettings(**_shared(settings))
    fixed.validate()
    return choose_model(fixed)


def _shared(settings: BotSettings) -> dict[str, Any]:
    """Return the settings that the operator fixes for all pictures."""
    known = LowMemoryTxt2ImgSettings.__dataclass_fields__
    own = {each.name: getattr(settings, each.name) for each in options_of(settings)}
    shared = {name: own[name] for name in own if name in known and name != "device"}
    if shared["scale"] is None:  # the model's own, or the programs' default
        del shared["scale"]
    return shared


def load_drawer(
    settings: BotSettings, choice: ModelChoice, device: str, queue: Queue, line: LineApi
) -> Drawer:
    """Load the model onto a device.

    Raises:
        UserError: no such device, or the checkpoint lacks weights.
    """
    fixed = LowMemoryTxt2ImgSettings(**_shared(settings))
    staging = Staging.of(fixed)
    pipeline = Pipeline.load(choice, device=device, use_ema=settings.use_ema, staging=staging)
    return Drawer(pipeline, settings, queue, line)


@dataclass
class Drawer:
    """Draws jobs with a loaded model.

    Attributes:
        pipeline: The model.
        settings: The operator's.
        queue: Knows where earlier jobs' pictures are.
        line: Where users' photos are.
    """

    pipeline: Pipeline
    settings: BotSettings
    queue: Queue
    line: LineApi

    def __call__(self, job: Job, folder: Path, check: Callable[[], None]) -> None:
        """Draw a job's pictures into a folder; see ``worker.Draw``."""
        start = self._start(job)
        settings = self._settings(job.task, start)
        watch = _Watch(check)
        drawn = self.pipeline.generate(settings, image=start, observer=watch)
        with contextlib.closing(drawn):
            for index, picture in enumerate(drawn):
                name = folder / f"{index}.png"
                save_picture(picture.pixels, name, metadata=picture.parameters)
                check()

    @property
    def side(self) -> int:
        """The largest side of a picture, in pixels."""
        return self.settings.max_side or SIDES * self.pipeline.choice.size

    def _settings(
        self, task: Task, start: Image.Image | None
    ) -> LowMemoryTxt2ImgSettings | LowMemoryImg2ImgSettings:
        """Return what the pipeline is to draw."""
        shared = _shared(self.settings)
        own: dict[str, Any] = {
            "prompt": task.prompt,
            "seed": secrets.randbelow(HIGHEST_RANDOM_SEED + 1) if task.seed is None else task.seed,
            "n_samples": 1,
            "n_iter": task.count,
            "plain_prompt": True,  # a colon in a chat is no weight
            "ddim_steps": task.steps or self.settings.ddim_steps,
        }
        scale = task.scale or self.settings.scale or self.pipeline.choice.scale
        if scale is not None:
            own["scale"] = scale
        if start is None:
            width, height = self._size(task.shape)
            return LowMemoryTxt2ImgSettings(**{**shared, **own, "W": width, "H": height})
        width, height = start.size
        sampler = "ddim" if shared["sampler"] == "plms" else shared["sampler"]
        own |= {"W": width, "H": height, "strength": STRENGTHS[task.kind], "sampler": sampler}
        return LowMemoryImg2ImgSettings(**{**shared, **own})

    def _size(self, shape: str) -> tuple[int, int]:
        """Return width and height: the model's own side, and 2/3 of it for the shorter one."""
        side = self.pipeline.choice.size
        short = self._multiple(side * 2 / 3)
        return {"portrait": (short, side), "landscape": (side, short)}.get(shape, (side, side))

    def _multiple(self, side: float) -> int:
        step = self.pipeline.choice.multiple
        return max(step, round(side / step) * step)

    def _start(self, job: Job) -> Image.Image | None:
        """Return the picture that a job starts from, at the size that it is drawn at."""
        task = job.task
        if task.kind == "text":
            return None
        if task.kind == "photo":
            image = self._photo(task.photo)
            own = self.pipeline.choice.size
            factor = own / min(image.size)
        else:
            image = self._earlier(task.source)
            factor = LARGER if task.kind == "larger" else 1
        factor = min(factor, self.side / max(image.size))
        width, height = (self._multiple(side * factor) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)

    def _earlier(self, name: str) -> Image.Image:
        path = self.queue.folder(name) / "0.png"
        if not path.is_file():
            raise UserError(f"the picture of job {name} is not kept any more; draw a new one")
        return load_image(path)

    def _photo(self, message_id: str) -> Image.Image:
        """Return a user's photo, fetched from LINE at most once."""
        path = self.queue.base.folder / "photos" / f"{message_id}.bin"
        if not path.is_file():
            outcome = self.line.photo(message_id)
            if outcome.answer == "refused":
                raise BadPhoto(f"the photo is not there: {outcome.reason}")
            if not outcome.done:
                raise NotNow(f"a photo cannot be fetched: {outcome.reason}")
            if len(outcome.value) > LARGEST_PHOTO:
                raise BadPhoto(f"the photo has {len(outcome.value)} bytes")
            with replacing(path) as part:
                part.write_bytes(outcome.value)
        try:
            return load_image(path)
        except UserError as error:
            raise BadPhoto(str(error)) from error


@dataclass
class _Watch:
    """Sees a run's events; looks now and then whether the pictures are still wanted."""

    check: Callable[[], None]
    last: float = 0.0

    def __call__(self, _: Notice | Progress) -> None:
        if time.monotonic() - self.last >= CHECKS:
            self.last = time.monotonic()
            self.check()
