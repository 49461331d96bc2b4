"""Pictures of a subject's class, which a model draws where there are too few: arXiv:2208.12242."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from ldm.data.captions import CaptionedFolder
from ldm.data.files import picture_files
from ldm.data.framing import Size
from ldm.errors import UserError
from ldm.paths import exists, is_folder

_DRAWN = re.compile(r"drawn-([0-9]{5})\.png")


class ClassPictures:
    """A folder of ``count`` pictures of a class: the user's own, filled up by the model's.

    Picture number k of the model's is ``drawn-<k>.png``, made from the seed ``seed`` + k.

    Args:
        folder: It is made where it does not exist.
        prompt: What is drawn, and the caption of all; a ``.txt`` beside a picture goes first.
        size: Side in pixels, or [height, width].
        count: How many there shall be; more are all used.
        seed: Of the first drawn picture.
        steps: Of DDIM.
        scale: Of guidance.
        **options: ``random_crop``, ``flip_p``, ``interpolation``: see ``Captioned``.

    Raises:
        UserError: A number is out of range.
    """

    def __init__(
        self,
        folder: str | Path,
        prompt: str,
        size: Size,
        *,
        count: int = 200,
        seed: int = 0,
        steps: int = 50,
        scale: float = 7.5,
        **options: Any,
    ):
        if count < 1 or steps < 1 or seed < 0:
            raise UserError(
                f"class_count {count}, class_steps {steps}, class_seed {seed} given; expected 1 or"
                " more, 1 or more, 0 or more; correct the config"
            )
        self.folder, self.prompt, self.size = Path(folder), prompt, size
        self.count, self.seed, self.steps, self.scale = count, seed, steps, scale
        self.options = options

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)

    def path(self, number: int) -> Path:
        """Return the file of drawn picture ``number``."""
        return self.folder / f"drawn-{number:05}.png"

    def missing(self) -> list[int]:
        """Return the numbers of the pictures that are still to be drawn."""
        if not is_folder(self.folder):
            return list(range(self.count))
        own = sum(_DRAWN.fullmatch(name) is None for name in picture_files(self.folder))
        return [n for n in range(self.count - own) if not exists(self.path(n))]

    @cached_property
    def _items(self) -> CaptionedFolder:
        return CaptionedFolder(
            str(self.folder), self.size, default_caption=self.prompt, **self.options
        )

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._items[index]
