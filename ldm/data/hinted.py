"""Data set of captioned pictures with drawings, for ControlNets and T2I-Adapters.

Items: "jpg" (H, W, 3) float32 in [-1, 1]; "hint" (H, W, 3) float32 in [0, 1]; RGB both; "txt" str.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ldm.data.captions import CaptionedFolder
from ldm.data.files import check_folder, picture_files
from ldm.data.framing import Frame, Size
from ldm.data.pictures import read_picture, to_model_range
from ldm.data.skipping import BadItem
from ldm.errors import UserError
from ldm.hints.make import make_hint
from ldm.settings.hints import complete_options

SIDES_DIFFER = 0.02
"""How far the shapes of a picture and its drawing may be apart, as a share."""


class HintedFolder(CaptionedFolder):
    """Pictures of a folder with captions beside them, and a drawing of each.

    A drawing is cut, resized and mirrored as its picture is.

    Args:
        root: The folder, see ``CaptionedFolder``.
        size: Side in pixels, or [height, width].
        hint: What to make of the picture itself, see ``ldm.settings.hints.HINTS``: such as
            ``canny``. None where ``hint_root`` is given.
        hint_options: Options of that kind.
        hint_root: A folder with a drawing of the same name for each picture, of any format.
        **options: See ``CaptionedFolder``.

    Raises:
        UserError: Not one of ``hint`` and ``hint_root`` is given, or as ``CaptionedFolder``.
    """

    def __init__(
        self,
        root: str,
        size: Size,
        *,
        hint: str | None = None,
        hint_options: Mapping[str, Any] | None = None,
        hint_root: str | None = None,
        **options: Any,
    ):
        if (hint is None) == (hint_root is None):
            raise UserError(
                f"hint {hint!r} and hint_root {hint_root!r} given; expected one of them: what to "
                "make of each picture, or the folder of drawings; correct the config"
            )
        self.hint, self.hint_options = hint, dict(hint_options or {})
        if hint is not None:
            complete_options(hint, self.hint_options)
        self.hint_root = None if hint_root is None else check_folder(hint_root)
        found = [] if hint_root is None else picture_files(self.hint_root)
        self._drawings = {os.path.splitext(name)[0]: name for name in found}
        super().__init__(root, size, **options)

    def item(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """Read a caption, its picture and its drawing.

        Raises:
            BadItem: One of them cannot be read, or the drawing has another shape.
        """
        caption = self.caption(index, rng)
        path, name = self.picture(index)
        picture = read_picture(path, at_least=self.framing.enough)
        frame = self.framing.choose(picture.size, rng)
        framed = self.framing.apply(picture, frame)
        if self.hint is not None:
            drawing = make_hint(self.hint, framed, **self.hint_options)
        else:
            drawing = self._drawn(name, picture.size, frame)
        pixels = np.asarray(drawing.convert("RGB"), dtype=np.float32) / 255.0
        return {"jpg": to_model_range(framed), "hint": pixels, "txt": caption}

    def _drawn(self, name: str, size: tuple[int, int], frame: Frame) -> Image.Image:
        """Read the drawing of a picture of (width, height), framed as the picture is."""
        own = self._drawings.get(os.path.splitext(name)[0])
        if own is None:
            raise BadItem(f"{name} has no drawing in {self.hint_root}")
        drawing = read_picture(Path(self.hint_root) / own)
        rates = [a / b for a, b in zip(size, drawing.size, strict=True)]
        if abs(rates[0] / rates[1] - 1) > SIDES_DIFFER:
            raise BadItem(f"{own} is of {drawing.size} pixels, its picture of {size}")
        if drawing.size != size:
            drawing = drawing.resize(size, Image.Resampling.BILINEAR)
        return self.framing.apply(drawing, frame, Image.Resampling.BILINEAR)
