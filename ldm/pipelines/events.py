"""What a run tells while it goes, and what it yields: values for a program to show."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ldm.pipelines.plan import Place

if TYPE_CHECKING:  # a program tells its --help without NumPy
    import numpy as np

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """A sentence for the user; a warning means that something may not be what was asked."""

    text: str
    warning: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        done: Steps taken, summed over pictures.
        total: Steps of the whole run, summed over pictures.
        pictures: Pictures denoised.
        total_pictures: Pictures of the whole run.
    """

    done: int
    total: int
    pictures: int
    total_pictures: int


@dataclass(frozen=True, eq=False)
class Picture:
    """A finished picture.

    Attributes:
        pixels: uint8 (H, W, 3), RGB, watermarked where that is possible: what to save.
        plain: The same before the watermark: what the grid is made of.
        prompt: The text that it shows.
        seed: The seed to name: the run's, or the picture's own in per-image mode.
        place: Where in its run it was drawn.
        parameters: The text to store in the file; ``--from-image`` draws the picture from it.
        flagged: Whether the safety checker blacked it out.
    """

    pixels: np.ndarray
    plain: np.ndarray
    prompt: str
    seed: int
    place: Place
    parameters: str
    flagged: bool = False


Observer = Callable[[Notice | Progress], None]


def log_events(event: Notice | Progress) -> None:
    """Pass notices to logging: what happens when a caller brings no observer of its own."""
    if isinstance(event, Notice):
        logger.log(logging.WARNING if event.warning else logging.INFO, event.text)
