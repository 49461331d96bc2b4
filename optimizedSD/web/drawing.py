"""Draw what a visitor asks for: checked against memory and time, cancelled at once, seen early."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # these import torch, and a page is laid out without a model
    from ldm.modules.attention_control.controller import Controller
    from ldm.pipelines.masks import Mask
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Observer, Picture
    from ldm.settings.generation import GenerationSettings

EVERY = 0.5  # seconds between two previews
MOST_SEEN = 4  # pictures of a preview


def draw(
    pipeline: Pipeline,
    settings: GenerationSettings,
    *,
    image: Image.Image | None = None,
    mask: Mask | None = None,
    seconds: float,
    stop: threading.Event,
    observer: Observer,
    see: Callable[[str], None],
    controller: Controller | None = None,
) -> Iterator[Picture]:
    """Draw the pictures of a run.

    Args:
        pipeline: The model.
        settings: What to draw.
        image: The init image, if there is one.
        mask: The part of it to redraw; None is all of it.
        seconds: The longest that it may take.
        stop: Ends it within an operation once it is set.
        observer: Called with each ``Notice`` and ``Progress``.
        see: Called with previews, as ``data:`` addresses; not for a model that has none.
        controller: Reads or changes the model's attention.

    Raises:
        UserError: At once for what cannot be drawn, does not fit into memory or takes too long.
        Cancelled: It was stopped.
    """
    from ldm.pipelines.cancelling import Cancel
    from ldm.pipelines.previewing import preview_of
    from ldm.pipelines.room import check_room

    request = pipeline.prepare(settings, image=image, mask=mask)
    check_room(request, pipeline, seconds=seconds)
    show = None  # else the library would say at each run that it has no preview
    if preview_of(pipeline.choice) is not None:
        show = lambda glimpse: see(preview(glimpse.pixels))  # noqa: E731
    return pipeline.generate(
        request,
        observer=observer,
        controller=controller,
        cancel=Cancel(stop),
        preview=show,
        every=EVERY,
    )


def preview(pixels: np.ndarray) -> str:
    """Return small pictures beside each other as a ``data:`` address.

    Args:
        pixels: uint8 (B, h, w, 3), RGB; the first ``MOST_SEEN`` are shown.
    """
    held = io.BytesIO()
    Image.fromarray(np.concatenate(list(pixels[:MOST_SEEN]), axis=1)).save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
