"""What a user can choose about making pictures larger by tiles. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ldm.errors import UserError
from ldm.settings.generation import LARGEST_SIDE, Img2ImgSettings
from ldm.settings.hires import LANCZOS
from ldm.settings.model_kind import Task
from ldm.settings.option import changed, option


@dataclass(frozen=True, kw_only=True)
class TileUpscaleSettings(Img2ImgSettings):
    """Settings of image-to-image at a multiple of the picture's size, in tiles of the model's own.

    Attributes:
        control_tile_hash: SHA-256 of that file; no option, but the program's own note.

    Example:
        >>> TileUpscaleSettings(init_img="small.png", factor=4.0).strength
        0.4
    """

    program: ClassVar[str] = "upscale_tile"
    task: ClassVar[Task] = "tiles"
    keeps_size: ClassVar[bool] = True

    init_img: str | None = changed(Img2ImgSettings, "init_img", help="the picture to make larger")
    prompt: str = changed(
        Img2ImgSettings, "prompt", default="", help="what the picture shows", shown="empty"
    )
    outdir: str = changed(Img2ImgSettings, "outdir", default="outputs/upscale-tile-samples")
    n_samples: int = changed(Img2ImgSettings, "n_samples", default=1)
    strength: float = changed(
        Img2ImgSettings, "strength", default=0.4, help="how much detail to draw anew: 0 is none"
    )
    factor: float = option(
        2.0,
        "how many times larger each side becomes",
        minimum=1.0,
        maximum=64.0,
        infotext="Upscale factor",
    )
    upscaler: str = option(
        LANCZOS,
        "how the picture is enlarged before it is redrawn: lanczos, or a network's file, or its "
        "name in models/upscalers (see docs/upscaling.md)",
        metavar="FILE",
        infotext="SD upscale upscaler",
    )
    tile: int | None = option(
        None,
        "side of a tile in pixels of the result",
        int,
        minimum=1,
        maximum=LARGEST_SIDE,
        shown="the size that the model was made for",
        infotext="Tile",
    )
    overlap: int | None = option(
        None,
        "how many pixels of a tile its neighbours see too, at least",
        int,
        minimum=0,
        maximum=LARGEST_SIDE,
        shown="half of a tile",
        infotext="Tile overlap",
    )
    control_tile: str | None = option(
        None,
        "a ControlNet for tiles, which holds the result to the picture: its file or folder, or its "
        "name in models/controlnet",
        str,
        metavar="PATH",
        shown="none",
        group="model",
    )
    control_tile_scale: float = option(
        1.0,
        "how strongly it does; 0 is not at all",
        minimum=0.0,
        maximum=10.0,
        infotext="Tile control scale",
        group="model",
    )
    control_tile_hash: str = ""

    @property
    def network(self) -> str | None:
        """The network that enlarges the picture, as it was named."""
        return None if self.upscaler == LANCZOS else self.upscaler

    def tiling(self, model_size: int, multiple: int) -> tuple[int, int]:
        """Return the side of a tile and the overlap, in pixels.

        Args:
            model_size: The side that the model was made for.
            multiple: What sides must be multiples of.

        Raises:
            UserError: They do not suit the model or one another.
        """
        tile = model_size if self.tile is None else self.tile
        if tile % multiple:
            raise UserError(
                f"--tile {tile} was given; expected a multiple of {multiple}, as the model needs; "
                f"try {max(tile // multiple, 1) * multiple}"
            )
        overlap = tile // 2 if self.overlap is None else self.overlap
        if overlap >= tile:
            raise UserError(
                f"--overlap {overlap} was given for tiles of {tile} pixels; expected less; "
                f"try {tile // 2}"
            )
        return tile, overlap

    def size_before_padding(
        self, own: tuple[int, int], model_size: int, multiple: int
    ) -> tuple[int, int]:
        """Return the height and width of the result, in pixels.

        Raises:
            UserError: It is too large, or the tiles do not suit the model.
        """
        self.tiling(model_size, multiple)
        height, width = (round(side * self.factor) for side in own)
        if max(height, width) > LARGEST_SIDE or height * width > self.max_pixels:
            raise UserError(
                f"--factor {self.factor:g} makes the picture {width}x{height}; expected at most "
                f"{self.max_pixels / 1e6:.4g} megapixels and sides of {LARGEST_SIDE}; give less, "
                "or raise --max_pixels"
            )
        return height, width

    def further_entries(self) -> Mapping[str, str]:
        """Return what the picture records of the ControlNet."""
        if self.control_tile is None:
            return {}
        return {"Tile control": self.control_tile, "Tile control hash": self.control_tile_hash}
