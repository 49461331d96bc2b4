"""From a job to pictures by ``Pipeline``: the model is loaded once, its stages take turns.

This runs in a process of its own (``studio``), which knows neither LINE nor the database.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from apps.line_bot.gallery import FLAGGED, UNKNOWN
from apps.line_bot.jobs import Task
from apps.line_bot.model import ChatPictureSettings, ChatSettings, shared_settings
from apps.line_bot.settings import BotSettings
from apps.line_bot.worker import BadPhoto
from ldm.errors import UserError
from ldm.images.io import load_image, save_picture
from ldm.legible import legible
from ldm.pipelines.models import ModelChoice
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice, Progress
from ldm.pipelines.staging import Staging
from ldm.settings.low_memory import HIGHEST_RANDOM_SEED
from ldm.settings.suiting import suited_to

Settings = TypeVar("Settings", ChatSettings, ChatPictureSettings)

# How much of a picture is drawn anew, by what it is started from.
STRENGTHS = {"photo": 0.65, "variation": 0.55, "larger": 0.35}
LARGER = 2  # times each side
SIDES = 2  # times the model's own side, where the operator gives no limit
MOST_WORDS, LONGEST_WORD = 10, 40  # that the model does not know and a message names
CHECKS = 0.25  # seconds between looks whether a job is still wanted


def load_drawer(settings: BotSettings, choice: ModelChoice, device: str) -> Drawer:
    """Load the model onto a device.

    Raises:
        UserError: no such device, or the checkpoint lacks weights.
    """
    fixed = ChatSettings(**shared_settings(settings))
    staging = Staging.of(fixed)
    pipeline = Pipeline.load(choice, device=device, use_ema=settings.use_ema, staging=staging)
    return Drawer(pipeline, settings)


@dataclass
class Drawer:
    """Draws jobs with a loaded model.

    Attributes:
        pipeline: The model.
        settings: The operator's.
    """

    pipeline: Pipeline
    settings: BotSettings

    def __call__(
        self, task: Task, folder: Path, check: Callable[[], None], source: Path | None = None
    ) -> None:
        """Draw a task's pictures into a folder; see ``worker.Draw``.

        Beside a picture that the safety checker blacked out lies a file ``N.flagged``; words that
        the model does not know are in a file beside them all.

        Args:
            task: What to draw.
            folder: An empty one.
            check: Called between steps; ends the drawing by raising.
            source: The user's photo or the earlier picture that the task starts from.
        """
        start = self._start(task, source) if source else None
        settings = self._settings(task, start)
        watch = _Watch(check)
        drawn = self.pipeline.generate(settings, image=start, observer=watch)
        with contextlib.closing(drawn):
            for index, picture in enumerate(drawn):
                name = folder / f"{index}.png"
                save_picture(picture.pixels, name, metadata=picture.parameters)
                if picture.flagged:
                    name.with_suffix(FLAGGED).touch()
                check()
        if watch.unknown:
            words = (legible(word, LONGEST_WORD) for word in watch.unknown[:MOST_WORDS])
            (folder / UNKNOWN).write_text("\n".join(words), encoding="utf-8")

    @property
    def side(self) -> int:
        """The largest side of a picture, in pixels."""
        return self.settings.max_side or SIDES * self.pipeline.choice.size

    def _settings(
        self, task: Task, start: Image.Image | None
    ) -> ChatSettings | ChatPictureSettings:
        """Return what the pipeline is to draw."""
        shared = shared_settings(self.settings)
        own: dict[str, Any] = {
            "prompt": task.prompt,
            "seed": secrets.randbelow(HIGHEST_RANDOM_SEED + 1) if task.seed is None else task.seed,
            "n_samples": 1,
            "n_iter": task.count,
            "plain_prompt": True,  # a colon in a chat is no weight
        }
        asked = {"ddim_steps": task.steps, "scale": task.scale}
        own |= {name: value for name, value in asked.items() if value}
        if start is None:
            width, height = self._size(task.shape)
            return self._suited(ChatSettings, {**shared, **own, "W": width, "H": height})
        width, height = start.size
        own |= {"W": width, "H": height, "strength": STRENGTHS[task.kind]}
        if shared.get("sampler") == "plms":  # which starts from noise alone
            own["sampler"] = "ddim"
        return self._suited(ChatPictureSettings, {**shared, **own})

    def _suited(self, schema: type[Settings], named: dict[str, Any]) -> Settings:
        """Return settings with the model's own where neither user nor operator named any."""
        return suited_to(schema(**named), self.pipeline.choice.sampling, named)

    def _size(self, shape: str) -> tuple[int, int]:
        """Return width and height: the model's own side, and 2/3 of it for the shorter one."""
        side = self.pipeline.choice.size
        short = self._multiple(side * 2 / 3)
        return {"portrait": (short, side), "landscape": (side, short)}.get(shape, (side, side))

    def _multiple(self, side: float) -> int:
        step = self.pipeline.choice.multiple
        return max(step, round(side / step) * step)

    def _start(self, task: Task, source: Path) -> Image.Image:
        """Return the picture that a task starts from, at the size that it is drawn at."""
        try:
            image = load_image(source)
        except UserError as error:
            if task.kind == "photo":
                raise BadPhoto(str(error)) from error
            raise
        if task.kind == "photo":
            factor = self.pipeline.choice.size / min(image.size)
        else:
            factor = LARGER if task.kind == "larger" else 1
        factor = min(factor, self.side / max(image.size))
        width, height = (self._multiple(side * factor) for side in image.size)
        return image.resize((width, height), Image.Resampling.LANCZOS)


@dataclass
class _Watch:
    """Sees a run's events; looks now and then whether the pictures are still wanted."""

    check: Callable[[], None]
    last: float = 0.0
    unknown: tuple[str, ...] = ()

    def __call__(self, event: Notice | Progress) -> None:
        if isinstance(event, Notice):
            self.unknown += event.unknown
        if time.monotonic() - self.last >= CHECKS:
            self.last = time.monotonic()
            self.check()
