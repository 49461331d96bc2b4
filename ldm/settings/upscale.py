"""What a user can choose about super-resolution. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ldm.errors import UserError
from ldm.settings.generation import LONGEST_RUN, MAX_SEED, GenerationSettings
from ldm.settings.option import (
    REQUIRED,
    Settings,
    changed,
    device_option,
    max_pixels_option,
    option,
    options_of,
)

MODEL = "models/ldm/bsr_sr"
PATCH = 128
"""Pixels of a side, which the diffusion model was trained on."""
TILE, OVERLAP = 256, 32
"""Pixels, of networks for pictures: less is lost at borders, and memory suffices."""
SMALLEST_TILE = 64
LARGEST_FACTOR = 64.0


@dataclass(frozen=True, kw_only=True)
class UpscaleSettings(Settings):
    """How a picture is made larger; the defaults are those of the reference's notebook.

    Example:
        >>> UpscaleSettings().steps
        100
    """

    program: ClassVar[str] = "upscale"

    steps: int = option(100, "number of sampling steps", minimum=1, maximum=LONGEST_RUN)
    eta: float = option(
        1.0,
        "noise added in each DDIM step: 0 is deterministic, 1 is DDPM's amount",
        minimum=0.0,
        maximum=1.0,
    )
    n_samples: int = option(
        1,
        "results for each picture; they differ where the picture leaves it open",
        minimum=1,
        maximum=LONGEST_RUN,
    )
    tile: int | None = option(
        None,
        "side of the patches, in pixels of the small picture, that a larger one is cut into; they "
        "overlap (by half, with --model by --overlap) and are blended; 0 never cuts",
        int,
        minimum=0,
        shown=f"{PATCH}; with --model {TILE}",
    )
    seed: int = option(
        42,
        "the seed of the first result; the next has the next seed",
        minimum=0,
        maximum=MAX_SEED,
    )

    @property
    def patch(self) -> int:
        """Side of the patches in pixels of the small picture; 0 never cuts."""
        return PATCH if self.tile is None else self.tile

    def validate(self, multiple: int = 1) -> None:
        """Check every value.

        Args:
            multiple: What sides of patches have to be a multiple of.

        Raises:
            UserError: One is out of range.
        """
        super().validate()
        if self.patch % (2 * multiple):
            raise UserError(
                f"--tile {self.patch} was given; expected 0 or a multiple of {2 * multiple}; "
                "change it"
            )


@dataclass(frozen=True, kw_only=True)
class UpscaleProgramSettings(UpscaleSettings):
    """Settings of ``scripts/upscale.py``."""

    groups: ClassVar[Mapping[str, str]] = {
        "files": "what is read and written",
        "picture": "how to make it larger",
        "model": "the model",
        "network": "a network in place of it, see docs/upscaling.md",
    }
    of_diffusion: ClassVar[tuple[str, ...]] = (
        *("steps", "eta", "n_samples", "seed", "ckpt", "config", "trust_config", "use_ema"),
    )
    """What only the diffusion model has."""

    init_img: tuple[str, ...] = option(
        REQUIRED,
        "the small pictures",
        str,
        flag="--init-img",
        several="+",
        group="files",
        metavar="FILE",
    )
    max_pixels: int = max_pixels_option(group="files")
    outdir: str = option(
        "outputs/upscale-samples",
        "the folder that the results go to",
        group="files",
        metavar="FOLDER",
    )
    ckpt: str = option(
        f"{MODEL}/model.ckpt", "the weights of the model", group="model", metavar="FILE"
    )
    config: str | None = option(
        None,
        "the YAML that describes the model",
        str,
        shown="beside the weights",
        group="model",
        metavar="FILE",
    )
    trust_config: bool = changed(GenerationSettings, "trust_config")
    use_ema: bool = option(
        False, "use the averaged (EMA) weights of a checkpoint that holds both", group="model"
    )
    model: str | None = option(
        None,
        "a network for pictures in place of the diffusion model: ESRGAN, Real-ESRGAN, SwinIR, HAT, "
        "DAT or another that spandrel knows; its file, or its name in models/upscalers",
        str,
        metavar="FILE",
        shown="none",
        group="network",
    )
    factor: float | None = option(
        None,
        "how many times larger each side becomes: the network is applied until that is reached, "
        "and Lanczos brings the picture to the exact size",
        float,
        minimum=0.01,
        maximum=LARGEST_FACTOR,
        shown="the network's own",
        group="network",
    )
    overlap: int | None = option(
        None,
        "how many pixels of a tile its neighbours see too; tiles are equal to the whole picture "
        "where the network sees no further than three eighths of that",
        int,
        minimum=0,
        shown=str(OVERLAP),
        group="network",
    )
    device: str = device_option()
    # As in the reference's notebook; the picture's own mark, if it has one, is lost either way.
    watermark: str = changed(GenerationSettings, "watermark", default="off", group="files")

    def validate(self, multiple: int = 1) -> None:
        """Check every value, and those that only one of the two kinds of model has.

        Raises:
            UserError: One is out of range, or belongs to a network and there is no ``model``.
        """
        if self.model is None:
            super().validate(multiple)
            for name in ("factor", "overlap"):
                if getattr(self, name) is not None:
                    raise UserError(
                        f"--{name} {getattr(self, name):g} was given without --model; expected "
                        "a network that makes pictures larger; add --model FILE"
                    )
            return
        super().validate()
        tile, overlap = self.tiling
        if tile and (tile < SMALLEST_TILE or overlap > tile // 2):
            raise UserError(
                f"tiles of {tile} pixels that overlap by {overlap} were asked for; expected tiles "
                f"of {SMALLEST_TILE} or more, or --tile 0, and an overlap of at most half of one; "
                "change --tile or --overlap"
            )

    @property
    def tiling(self) -> tuple[int, int]:
        """Side of a network's tiles and their overlap, in pixels."""
        tile = TILE if self.tile is None else self.tile
        return tile, OVERLAP if self.overlap is None else self.overlap

    @property
    def unused(self) -> list[str]:
        """The flags that have no effect on a network but have other values than usual."""
        if self.model is None:
            return []
        options = {each.name: each for each in options_of(self)}
        usual = {name: type(self).__dataclass_fields__[name].default for name in self.of_diffusion}
        return [options[name].flag for name in usual if getattr(self, name) != usual[name]]
