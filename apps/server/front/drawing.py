"""From a wish to its pictures by the service; whoever hangs up has cancelled it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image

from apps.server.answers import outcome
from apps.server.front.values import about
from apps.server.front.wish import Wish
from apps.server.refused import Refused
from apps.server.tickets import Drawn, Ticket
from ldm.errors import UserError
from ldm.images.io import after_saving, encode_picture
from ldm.images.metadata import format_parameters, parse_parameters
from ldm.pipelines.masks import Mask
from ldm.pipelines.postprocess import Watermark
from ldm.safety.watermark import TEXT, read_watermark

if TYPE_CHECKING:
    from apps.server.service import Service

UNMARKED = "the picture holds no watermark that can be read: what is new in it may be too little"


@dataclass(frozen=True)
class Finished:
    """A picture as it is sent.

    Attributes:
        data: The file's bytes.
        parameters: Its recipe.
        seed: Its own.
        size: Width and height, in pixels.
        notice: What is to be said of it; empty if nothing is.
    """

    data: bytes
    parameters: str
    seed: int
    size: tuple[int, int]
    notice: str = ""


async def submitted(service: Service, wish: Wish, key: str) -> Ticket:
    """Put a wish into the service's queue.

    Raises:
        Unfit: The model cannot draw it.
        Refused: The queue is full, or no job is taken now.
    """

    def submit() -> Ticket:
        with about(None, service.hidden):
            return service.submit(wish.settings, key, image=wish.image, mask=wish.mask)

    return await run_in_threadpool(submit)


async def drawn_or_interrupted(service: Service, ticket: Ticket, http: Request) -> list[Drawn]:
    """Wait for a job's pictures; one that was cancelled has those that were finished before.

    Raises:
        Refused: It failed, or was handed back.
    """
    try:
        return await outcome(http, service, ticket)
    except Refused:
        if ticket.snapshot().state != "cancelled":
            raise
        return ticket.pictures


async def finished(wish: Wish, drawn: list[Drawn]) -> list[Finished]:
    """Return drawn pictures as they are sent."""
    return [await run_in_threadpool(_finished, wish, each) for each in drawn]


def _finished(wish: Wish, drawn: Drawn) -> Finished:
    parameters = _recipe(drawn.parameters, wish)
    if wish.format == "png" and parameters == drawn.parameters and wish.finish is None:
        return Finished(drawn.png, parameters, drawn.seed, drawn.size)
    image = Image.open(io.BytesIO(drawn.png)).convert("RGB")
    if wish.finish is not None and not drawn.flagged:
        image = wish.finish(image)
    pixels, notice = np.asarray(image), ""
    if wish.finish is not None or wish.format != "png":
        pixels, notice = _marked(wish, pixels, None if drawn.flagged else wish.part)
    data = encode_picture(pixels, wish.format, parameters)
    return Finished(data, parameters, drawn.seed, image.size, notice)


def _marked(wish: Wish, pixels: np.ndarray, part: Image.Image | None) -> tuple[np.ndarray, str]:
    """Return a picture with the watermark of its settings, and what is to be said of that.

    What was drawn carried it, which a resize, a soft edge or JPEG may have undone. Where it has
    not, nothing changes.
    """
    mark = Watermark.of(wish.settings.watermark, wish.format)
    if mark.obstacle(*pixels.shape[:2]) or _carries(after_saving(pixels, wish.format)):
        return pixels, ""
    fits = part is not None and part.size == pixels.shape[1::-1]
    marked = mark(pixels, Mask(np.asarray(part) > 0) if fits else None)
    return marked, UNMARKED if np.array_equal(marked, pixels) else ""


def _carries(pixels: np.ndarray) -> bool:
    try:
        return read_watermark(pixels) == TEXT
    except UserError:  # the gentle one needs no package; without it none of the other kind is here
        return False


def _recipe(parameters: str, wish: Wish) -> str:
    if not wish.entries:
        return parameters
    prompt, negative, entries = parse_parameters(parameters)
    return format_parameters(prompt, negative, {**entries, **wish.entries})
