"""Draw what a visitor asks for: checked against memory and time, cancelled at once, seen early."""

from __future__ import annotations

import base64
import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ldm.errors import UserError
from ldm.pipelines.progress import Notice
from ldm.programs.naming import PromptNaming
from ldm.programs.output import OutputFolder
from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:  # these import torch, and a page is laid out without a model
    from ldm.pipelines.masks import Mask
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from ldm.pipelines.request import Request
    from optimizedSD.web.word_maps import WordMaps
    from optimizedSD.web.worker import Desk

EVERY = 0.5  # seconds between two previews
MOST_SEEN = 4  # pictures of a preview


def draw(
    pipeline: Pipeline,
    request: Request,
    *,
    seconds: float,
    stop: threading.Event,
    see: Callable[[str], None],
    **watched: Any,
) -> Iterator[Picture]:
    """Begin a run whose visitor sees it come, and may stop it at any time.

    Args:
        pipeline: The model.
        request: What to draw, prepared by the pipeline.
        seconds: The longest that it may take.
        stop: Ends it within an operation once it is set.
        see: Called with previews, as ``data:`` addresses; not for a model that has none.
        **watched: As for ``Pipeline.generate``: an observer, a controller; a preview or a token
            takes the place of these here.

    Raises:
        UserError: At once for what does not fit into memory or takes too long.
        Cancelled: It was stopped; while it is drawn.
    """
    from ldm.pipelines.cancelling import Cancel
    from ldm.pipelines.previewing import preview_of
    from ldm.pipelines.room import check_room

    check_room(request, pipeline, seconds=seconds)
    usual: dict[str, Any] = {"cancel": Cancel(stop)}
    if preview_of(pipeline.choice) is not None:  # else each run would say that there is none
        usual |= {"preview": lambda glimpse: see(preview(glimpse.pixels)), "every": EVERY}
    return pipeline.generate(request, **{**usual, **watched})


def drawn_by(desk: Desk, request: Request, **watched: Any) -> Iterator[Picture]:
    """Begin a run whose visitor sees it come, and may stop it at any time.

    Args:
        desk: The job's.
        request: What to draw, of the desk's pipeline.
        **watched: As for ``Pipeline.generate``, in place of what is shown to the visitor.

    Raises:
        UserError: There is not enough memory or time for it.
    """
    return draw(
        desk.pipeline,
        request,
        seconds=desk.limits.seconds,
        stop=desk.stop,
        see=lambda preview: desk.show(desk.state.seen(preview)),
        **{"observer": desk.observe, **watched},
    )


@dataclass(frozen=True)
class Drawing:
    """A run of the model.

    Attributes:
        settings: What to draw, and the folder for it.
        language: The visitor's.
        image: The init image, if there is one.
        mask: The part of it to redraw; None is all of it.
        watcher: Sees where words look while the pictures are drawn.
    """

    settings: GenerationSettings
    language: str = "en"
    image: Image.Image | None = None
    mask: Mask | None = None
    watcher: WordMaps | None = None

    @property
    def seed(self) -> int:
        """The run's."""
        return self.settings.seed

    def do(self, desk: Desk) -> None:
        """Draw, save and show; raises UserError for what cannot be drawn or saved."""
        settings, watcher = self.settings, self.watcher
        output = OutputFolder(settings.outdir, settings.format, PromptNaming(settings.originals))
        output.check(settings.drawn_prompts)
        request = desk.pipeline.prepare(settings, image=self.image, mask=self.mask)
        drawn = drawn_by(desk, request, controller=watcher)
        self._log(desk)
        with contextlib.closing(drawn):
            for picture in map(self.finished, drawn):
                output.take(picture)
                desk.take(picture, output.saved[-1], watcher.looks(picture) if watcher else None)

    def finished(self, picture: Picture) -> Picture:
        """Return a drawn picture as it is saved."""
        return picture

    def _log(self, desk: Desk) -> None:
        """Record the run; if that fails, warn and go on, since the pictures matter more."""
        try:
            desk.worker.log_run(self.settings)
        except UserError as error:
            desk.observe(Notice(str(error), warning=True))


def preview(pixels: np.ndarray) -> str:
    """Return small pictures beside each other as a ``data:`` address.

    Args:
        pixels: uint8 (B, h, w, 3), RGB; the first ``MOST_SEEN`` are shown.
    """
    held = io.BytesIO()
    Image.fromarray(np.concatenate(list(pixels[:MOST_SEEN]), axis=1)).save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
