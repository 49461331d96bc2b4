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
)

MODEL = "models/ldm/bsr_sr"


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
    tile: int = option(
        128,
        "side of the patches, in pixels of the small picture, that a larger one is cut into; they "
        "overlap by half and are blended; 0 never cuts",
        minimum=0,
    )
    seed: int = option(
        42,
        "the seed of the first result; the next has the next seed",
        minimum=0,
        maximum=MAX_SEED,
    )

    def validate(self, multiple: int = 1) -> None:
        """Check every value.

        Args:
            multiple: What sides of patches have to be a multiple of.

        Raises:
            UserError: One is out of range.
        """
        super().validate()
        if self.tile % (2 * multiple):
            raise UserError(
                f"--tile {self.tile} was given; expected 0 or a multiple of {2 * multiple}; "
                "change it"
            )


@dataclass(frozen=True, kw_only=True)
class UpscaleProgramSettings(UpscaleSettings):
    """Settings of ``scripts/upscale.py``."""

    groups: ClassVar[Mapping[str, str]] = {
        "files": "what is read and written",
        "picture": "how to make it larger",
        "model": "the model",
    }

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
    device: str = device_option()
    # As in the reference's notebook; the picture's own mark, if it has one, is lost either way.
    watermark: str = changed(GenerationSettings, "watermark", default="off", group="files")
