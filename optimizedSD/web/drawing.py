"""Draw what a visitor asks for: checked against memory and time, cancelled at once, seen early."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # these import torch, and a page is laid out without a model
    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Picture
    from ldm.pipelines.request import Request

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


def preview(pixels: np.ndarray) -> str:
    """Return small pictures beside each other as a ``data:`` address.

    Args:
        pixels: uint8 (B, h, w, 3), RGB; the first ``MOST_SEEN`` are shown.
    """
    held = io.BytesIO()
    Image.fromarray(np.concatenate(list(pixels[:MOST_SEEN]), axis=1)).save(held, "PNG")
    return f"data:image/png;base64,{base64.b64encode(held.getvalue()).decode()}"
