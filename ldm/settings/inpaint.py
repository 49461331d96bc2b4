"""What a user of inpainting can choose. Imports no torch.

The mask itself is read and fitted in ``ldm.pipelines.masks``; what sampling does with it is in
``ldm.pipelines.inpainting``, and in ``ldm.pipelines.inpainting`` for models that see it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ldm.settings.generation import Img2ImgSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings
from ldm.settings.model_kind import REPAINTING, ModelKind
from ldm.settings.option import changed, option

# What a model is best left at: the values of the programs that each kind came with.
OWN_VALUES = {
    ModelKind.TEXT: {"scale": 5.0, "strength": 0.75},
    ModelKind.INPAINT: {"scale": 7.5, "strength": 1.0},
    ModelKind.FILL: {"scale": 1.0, "strength": 1.0},
}


@dataclass(frozen=True, kw_only=True)
class InpaintSettings(Img2ImgSettings):
    """Settings of inpainting: of ``init_img`` only what ``mask`` marks is drawn anew.

    Outside the mask ``Picture.plain`` and ``Picture.pixels`` are equal to the (fitted) first
    picture, byte for byte: the invisible watermark is put into the repainted part alone, and a
    warning tells where that part is too small to carry it. Two things do reach the kept part:
    a flagged picture is blacked out whole, and a JPEG file changes every pixel a little.

    The picture may be of any size: for the model it is continued by its reflection, and what is
    drawn is cut back. With a model made for inpainting, ``strength`` is best left at 1, its own.

    Example:
        >>> InpaintSettings(init_img="room.png", mask="window.png").strength
        0.75
    """

    program: ClassVar[str] = "inpaint"
    kinds: ClassVar[tuple[ModelKind, ...]] = REPAINTING
    keeps_size: ClassVar[bool] = True

    outdir: str = option(
        "outputs/inpaint-samples",
        "the folder that the pictures go to",
        group="output",
        metavar="FOLDER",
    )
    mask: str | None = option(
        None,
        "a picture of the first one's size: white where to draw anew, black where to keep",
        str,
        shown="none, it has to be given",
        group="prompt",
        metavar="FILE",
    )
    strength: float = option(
        0.75,
        "how much of what the mask marks to draw anew: 0 keeps it, 1 starts from pure noise",
        minimum=0.0,
        maximum=1.0,
        infotext="Denoising strength",
        group="prompt",
    )


@dataclass(frozen=True, kw_only=True)
class LowMemoryInpaintSettings(LowMemoryImg2ImgSettings, InpaintSettings):
    """Settings of inpainting on small devices; the picture may be resized, and its mask with it.

    Example:
        >>> settings = LowMemoryInpaintSettings(init_img="room.png", mask="window.png", W=512)
        >>> settings.seed_mode, settings.outdir
        ('per-image', 'outputs/inpaint-samples')
    """

    program: ClassVar[str] = "optimized_inpaint"
    kinds: ClassVar[tuple[ModelKind, ...]] = (ModelKind.TEXT, ModelKind.INPAINT)
    keeps_size: ClassVar[bool] = False

    # Both bases have these; the first one's would win.
    outdir: str = changed(InpaintSettings, "outdir")
    strength: float = changed(InpaintSettings, "strength")
