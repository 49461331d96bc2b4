"""What a user of inpainting can choose. Imports no torch.

The mask itself is read and fitted in ``ldm.pipelines.masks``; what sampling does with it is in
``ldm.pipelines.inpainting``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ldm.errors import UserError
from ldm.settings.generation import Img2ImgSettings
from ldm.settings.low_memory import LowMemoryImg2ImgSettings
from ldm.settings.model_kind import ModelKind, Task
from ldm.settings.option import changed, option

FILLS = ("original", "fill", "noise", "nothing")
USUAL_BLUR = 4  # pixels

if TYPE_CHECKING:
    from typing import Self  # in typing from Python 3.11 on


@dataclass(frozen=True, kw_only=True)
class InpaintSettings(Img2ImgSettings):
    """Settings of inpainting: of ``init_img`` only what ``mask`` marks is repainted.

    Outside the mask, ``Picture.plain`` and ``Picture.pixels`` are equal to the fitted init
    image, byte for byte: the invisible watermark is put into the repainted part only, and a
    warning says if that part is too small to carry it. Two things do affect the kept part: a
    flagged picture is blacked out entirely, and a JPEG file changes every pixel a little.

    The picture may be of any size: it is padded by reflection for the model, and the result is
    cropped back. With a model made for inpainting, leave ``strength`` at 1, that model's default.

    Example:
        >>> InpaintSettings(init_img="room.png", mask="window.png").strength
        0.75
    """

    program: ClassVar[str] = "inpaint"
    task: ClassVar[Task] = "mask"
    keeps_size: ClassVar[bool] = True

    outdir: str = changed(Img2ImgSettings, "outdir", default="outputs/inpaint-samples")
    mask: str | None = option(
        None,
        "a picture of the same size: white where to repaint, black where to keep",
        str,
        shown="none, required",
        group="prompt",
        metavar="FILE",
    )
    strength: float = option(
        0.75,
        "how much to change what the mask marks: 0 keeps it, 1 starts from pure noise",
        minimum=0.0,
        maximum=1.0,
        infotext="Denoising strength",
        group="prompt",
    )

    only_masked: int | None = option(
        None,
        "draw only the area around the mask, with so many of the picture's pixels around it, at "
        "the model's own size, and lay it back: the picture keeps its size, and what is drawn has "
        "all the model's detail",
        int,
        minimum=0,
        maximum=10_000,
        shown="the whole picture is drawn",
        infotext="Masked area padding",
        group="prompt",
        metavar="PADDING",
    )
    mask_blur: int | None = option(
        None,
        "soften the mask's edge outwards, in pixels of the picture; further away pixels stay",
        int,
        minimum=0,
        maximum=64,
        shown=f"0; {USUAL_BLUR} with --only_masked or --outpaint",
        infotext="Mask blur",
        group="prompt",
    )
    invert_mask: bool = option(
        False,
        "repaint what is black in --mask, and keep what is white",
        infotext="Mask inverted",
        group="prompt",
    )
    fill: str | None = option(
        None,
        "what the marked part begins with, below --strength 1: what is there, the colours around "
        "it, noise, or nothing (latents of zeros)",
        str,
        choices=FILLS,
        shown="original; fill with --outpaint",
        infotext="Masked content",
        group="prompt",
    )
    outpaint: str | None = option(
        None,
        "draw on around the picture: so many pixels to its left, above it, to its right and below "
        "it; --mask may be left out",
        str,
        pattern=r"(?=.*[1-9])\d{1,5}(,\d{1,5}){3}",
        words="LEFT,TOP,RIGHT,BOTTOM: four whole numbers of pixels below 100000, not all of them 0",
        shown="none",
        infotext="Outpaint",
        group="prompt",
        metavar="L,T,R,B",
    )

    @property
    def takes_mask(self) -> bool:
        """Whether only a part of the picture that it starts from is drawn."""
        return True

    @property
    def margins(self) -> tuple[int, ...]:
        """How many pixels are added to the left, above, to the right and below."""
        return tuple(map(int, self.outpaint.split(","))) if self.outpaint else (0, 0, 0, 0)

    @property
    def blur(self) -> int:
        """The standard deviation of the mask's soft edge, in pixels of the picture."""
        if self.mask_blur is not None:
            return self.mask_blur
        return USUAL_BLUR if self.only_masked is not None or any(self.margins) else 0

    @property
    def filling(self) -> str:
        """What the marked part begins with: one of ``FILLS``."""
        return self.fill or ("fill" if any(self.margins) else FILLS[0])

    @property
    def lays_out(self) -> bool:
        """Whether what is drawn is laid into the picture in another way than where it is marked."""
        asked = self.only_masked is not None or self.invert_mask or self.blur
        return bool(asked or any(self.margins) or self.filling == "fill")

    def notices(self, prompts: Sequence[str] = ()) -> list[str]:
        """List settings without effect: at full strength nothing of the picture is left."""
        found = super().notices(prompts)
        if self.fill is not None and self.strength == 1.0:
            found.append(
                f"--fill {self.fill} has no effect at --strength 1, which starts from noise"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class LowMemoryInpaintSettings(LowMemoryImg2ImgSettings, InpaintSettings):
    """Settings of inpainting on small devices; the picture may be resized, and its mask with it.

    Example:
        >>> settings = LowMemoryInpaintSettings(init_img="room.png", mask="window.png", W=512)
        >>> settings.seed_mode, settings.outdir
        ('per-image', 'outputs/inpaint-samples')
    """

    program: ClassVar[str] = "optimized_inpaint"
    keeps_size: ClassVar[bool] = False

    # Both bases have these; the first one's would win.
    outdir: str = changed(InpaintSettings, "outdir")
    strength: float = changed(InpaintSettings, "strength")

    def draws_with(self, kind: ModelKind) -> bool:
        """Return whether a kind of model can draw this: only one that takes text can."""
        return super().draws_with(kind) and kind.takes_text


@dataclass(frozen=True, kw_only=True)
class InpaintProgramSettings(InpaintSettings):
    """Settings of ``scripts/inpaint.py``.

    Example:
        >>> InpaintProgramSettings(indir="pictures").wants_text
        False
    """

    prompt: str | None = changed(
        InpaintSettings,
        "prompt",
        default=None,
        help="what to draw where the mask is white",
        shown="none: the hole is filled from its surroundings, by a model that takes no text",
    )
    indir: str | None = option(
        None,
        "a folder of pictures X.png with their masks X_mask.png, instead of --init-img and "
        "--mask; each becomes X.png in --outdir",
        str,
        group="prompt",
        metavar="FOLDER",
    )
    init_img: str | None = changed(
        InpaintSettings,
        "init_img",
        help="the picture to repaint, of any size; the parts that --mask keeps stay unchanged",
        shown="none, required unless --indir is given",
    )
    mask: str | None = changed(
        InpaintSettings, "mask", shown="none, required unless --indir is given"
    )
    strength: float = changed(
        InpaintSettings, "strength", shown="0.75; 1 with a model made for inpainting"
    )
    scale: float = changed(
        InpaintSettings, "scale", shown="5; 7.5 with a model made for inpainting"
    )
    ddim_steps: int = changed(InpaintSettings, "ddim_steps", synonyms=("--steps",))
    n_samples: int = changed(InpaintSettings, "n_samples", shown="2; with --indir 1")
    ckpt: str | None = changed(
        InpaintSettings,
        "ckpt",
        help="the checkpoint: .ckpt, .safetensors or a diffusers folder; an ordinary one, or one "
        "made for inpainting",
        shown="without --prompt: models/ldm/inpainting_big/last.ckpt; with it: the first that "
        "exists of models/ldm/stable-diffusion-v1/sd-v1-5-inpainting.ckpt, model.ckpt beside it, "
        "the bundled demo model",
    )
    config: str | None = changed(
        InpaintSettings,
        "config",
        shown="beside the checkpoint, else the one in configs/stable-diffusion that fits it",
    )

    @property
    def wants_text(self) -> bool:
        """Whether a prompt was given, an empty one included."""
        return self.prompt is not None or self.from_file is not None

    @property
    def takes_folder(self) -> bool:
        """Whether init images come from a folder, one after another."""
        return self.indir is not None

    def validate(self) -> None:
        """Check as the base does, and that there is one picture or one folder to repaint."""
        super().validate()
        single = {"--init-img": self.init_img, "--mask": self.mask, "--from-image": self.from_image}
        given = [flag for flag, value in single.items() if value is not None]
        if self.indir is None and not given:
            raise UserError(
                "neither --init-img nor --indir was given; expected a picture to repaint with its "
                "--mask, or a folder of both; add --init-img FILE --mask FILE, or --indir FOLDER"
            )
        if self.indir is not None and given:
            raise UserError(
                f"--indir {self.indir} and {given[0]} were given together; expected a folder or "
                "one picture; leave one out"
            )
        if self.indir is not None and self.skip_save:
            raise UserError(
                "--skip_save was given with --indir, which makes no grids; expected something to "
                "write; leave it out"
            )

    def suited(self, kind: ModelKind, named: Collection[str]) -> Self:
        """Return these settings with the scale, strength and number that suit model and folder.

        Args:
            kind: The model's.
            named: Settings that the user gave.

        Raises:
            UserError: no prompt for a model that draws from text.
        """
        if kind.takes_text and not self.wants_text:
            raise UserError(
                f"no --prompt was given, and {self.ckpt or self.config} draws from text; expected "
                'a prompt; add --prompt TEXT, or --prompt "" to leave it to the model'
            )
        own = {**kind.own_values, **({"n_samples": 1} if self.takes_folder else {})}
        left = {name: value for name, value in own.items() if name not in named}
        return replace(self, prompt=self.prompt or "", **left)

    def of(self, picture: Path, mask: Path) -> Self:
        """Return the settings that draw one pair of the folder."""
        return replace(self, indir=None, init_img=str(picture), mask=str(mask))
