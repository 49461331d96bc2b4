"""What a front end has read from a request: settings, pictures to start from, what comes after."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ldm.settings.generation import GenerationSettings

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False)
class Wish:
    """What a request asks for.

    Attributes:
        settings: Of all its pictures; the seeds of the others follow the first's.
        image: What they start from.
        mask: What of it is painted anew, in white.
        finish: Makes of a drawn picture the one that is sent.
        part: Where that may differ from the picture to start from: not black (L, of its size). None
            is everywhere.
        entries: What the picture's recipe says of that; these replace or follow its own.
        format: Of the files: ``png`` or ``jpg``.
        ignored: What was asked for and is not done, a sentence each.
        further: Pixels that are kept beside those of ``image``.
    """

    settings: GenerationSettings
    image: Image.Image | None = None
    mask: Image.Image | None = None
    finish: Callable[[Image.Image], Image.Image] | None = None
    part: Image.Image | None = None
    entries: Mapping[str, str] = field(default_factory=dict)
    format: str = "png"
    ignored: tuple[str, ...] = ()
    further: int = 0

    @property
    def held(self) -> int:
        """How many pixels are kept until the pictures are sent."""
        own = 0 if self.image is None else self.image.width * self.image.height
        return own + self.further
