"""What a user of the low-memory programs can choose. Imports no torch.

The flags and defaults are those of basujindal's fork, for its users. Everything that
text-to-image and image-to-image offer is available as well.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from ldm.errors import UserError
from ldm.settings.generation import (
    LARGEST_SIDE,
    GenerationSettings,
    Img2ImgSettings,
    Txt2ImgSettings,
)
from ldm.settings.option import changed, option

if TYPE_CHECKING:
    from typing import Self  # in typing from Python 3.11 on

HIGHEST_RANDOM_SEED = 10**6
HEIGHT, WIDTH = "height in pixels to resize to", "width in pixels to resize to"
LARGEST_ASKED = 2**27  # pixels: Pillow reads this back without a decompression-bomb warning
LARGEST_UNASKED = 16  # times the model's own number of pixels: SD v1's 2048x2048
PRECISION = (
    "autocast keeps the weights and computes in float16 on cuda (in float32 elsewhere); full is "
    "float32; bfloat16 and float16 are these on any device; auto is float16 on cuda, and on a "
    "processor the one that it multiplies fastest, measured once in 0.1 s; int8 computes the "
    "denoiser's layers in 8-bit integers, on processors only"
)


class ForkHabits:
    """How the fork's programs count: a random seed by default, and a batch for each line of a file.

    For settings with the fields ``seed`` (None is a random seed) and ``n_samples``.
    """

    def with_seed(self) -> Self:
        """Return these settings with a random seed, unless they have one."""
        if self.seed is not None:
            return self
        return replace(self, seed=secrets.randbelow(HIGHEST_RANDOM_SEED + 1))

    @property
    def per_line(self) -> int:
        """How many pictures an iteration draws for each line of a prompt file."""
        return self.n_samples


@dataclass(frozen=True, kw_only=True)
class WeightedPrompts:
    """Prompts that may be mixtures, for settings that draw from text."""

    plain_prompt: bool = option(
        False,
        "read a colon and a number in a prompt as plain text; otherwise 'tabby cat:0.25 duck:0.75' "
        "is a mixture of both in these proportions",
        group="prompt",
    )

    def validate(self) -> None:
        """Check as the base does, and also the weights in the prompts."""
        super().validate()
        # Those of templates are checked when they are drawn.
        for prompt in (self.prompt, self.negative_prompt) if self.wildcards is None else ():
            self.mixture(prompt)

    def notices(self, prompts: Sequence[str] = ()) -> list[str]:
        """List settings without effect, and text in the prompts that only looks like a weight."""
        found = super().notices(prompts)
        if not self._reads_weights:
            return found
        from ldm.settings.prompt_weights import doubtful  # other programs read no weights

        texts = map(self.untagged, (*prompts, self.negative_prompt))
        alike = [words for text in texts for words in doubtful(text)]
        return found + [
            f"{text!r} in the prompt is text, not a weight; a weight is a number directly after a "
            "word and a colon, with a decimal point if the word ends in a digit: cat:2, "
            "route 66:2.0"
            for text in dict.fromkeys(alike)
        ]

    def mixture(self, prompt: str) -> list[tuple[str, float]]:
        """Return the texts that a prompt is encoded as, and their shares, which sum to 1.

        Raises:
            UserError: invalid weights.
        """
        text = self.untagged(prompt)
        if not self._reads_weights:
            return [(text, 1.0)]
        from ldm.settings.prompt_weights import mixture_of

        return mixture_of(text)

    @property
    def _reads_weights(self) -> bool:
        """Whether ``cat:0.25`` is a weight: other syntaxes have their own."""
        return not self.plain_prompt and self.prompt_syntax == "compvis"


@dataclass(frozen=True, kw_only=True)
class SmallDevice(ForkHabits):
    """How a model draws whose parts take turns on the device."""

    seed: int | None = changed(
        GenerationSettings,
        "seed",
        default=None,
        help="the seed of the first picture",
        shown=f"a random one up to {HIGHEST_RANDOM_SEED}, which is shown and stored",
    )
    seed_mode: str = changed(GenerationSettings, "seed_mode", default="per-image")
    precision: str = changed(GenerationSettings, "precision", help=PRECISION)
    kernels: str = changed(
        GenerationSettings,
        "kernels",
        help="auto has no effect here: packed weights would be a second copy in memory",
    )
    vram_budget: float | None = option(
        None,
        "GiB of the device's memory to stay within; the fastest plan that fits is used",
        float,
        minimum=0.0,
        shown="what is free",
        group="model",
    )
    turbo: bool = option(
        False,
        "keep the whole UNet on the device while sampling: faster, more memory",
        group="model",
    )
    unet_bs: int = option(
        1,
        "rows that the UNet computes at a time on a GPU (a CPU computes all at once); guidance "
        "needs two rows per picture",
        minimum=1,
        group="model",
    )

    @property
    def low_memory(self) -> bool:
        """Whether the model's stages take turns on the device."""
        return True


@dataclass(frozen=True, kw_only=True)
class LowMemory(SmallDevice, WeightedPrompts):
    """What the low-memory programs add to their base settings, or change in them."""

    from_file: str | None = changed(
        GenerationSettings,
        "from_file",
        help="a UTF-8 text file with one prompt per line; each line is drawn --n_samples times per "
        "iteration, in the file's order",
    )
    scale: float = changed(GenerationSettings, "scale", default=7.5)
    n_iter: int = changed(GenerationSettings, "n_iter", default=1)
    n_samples: int = changed(
        GenerationSettings, "n_samples", default=5, help="pictures per prompt, drawn in one batch"
    )


@dataclass(frozen=True, kw_only=True)
class LowMemoryTxt2ImgSettings(LowMemory, Txt2ImgSettings):
    """Settings of text-to-image on small devices.

    Example:
        >>> settings = LowMemoryTxt2ImgSettings(prompt="a cat:1 a dog:3")
        >>> settings.mixture(settings.prompt), settings.n_samples
        ([('a cat', 0.25), ('a dog', 0.75)], 5)
    """

    program: ClassVar[str] = "optimized_txt2img"

    sampler: str = changed(Txt2ImgSettings, "sampler", default="plms")
    # The fork marks no pictures: the least change is the nearest to that.
    watermark: str = changed(Txt2ImgSettings, "watermark", default="gentle")


@dataclass(frozen=True, kw_only=True)
class LowMemoryImg2ImgSettings(LowMemory, Img2ImgSettings):
    """Settings of image-to-image on small devices; the picture may be resized.

    Example:
        >>> LowMemoryImg2ImgSettings(init_img="sketch.png", W=512).strength
        0.75
    """

    program: ClassVar[str] = "optimized_img2img"

    init_img: str | None = changed(
        Img2ImgSettings,
        "init_img",
        help="the picture to start from; resized to --H and --W, otherwise to the next smaller "
        "multiples of 64 pixels",
    )
    H: int | None = changed(
        Txt2ImgSettings, "H", help=HEIGHT, shown="in proportion to --W, or the picture's own"
    )
    W: int | None = changed(
        Txt2ImgSettings, "W", help=WIDTH, shown="in proportion to --H, or the picture's own"
    )

    def target_size(
        self, own: tuple[int, int], model_size: int, multiple: int
    ) -> tuple[int, int] | None:
        """Return the size that ``H`` and ``W`` ask for, one of them in proportion to the other.

        Raises:
            UserError: the size is too large, or neither is given and the picture is too large.
        """
        if self.H is None and self.W is None:
            _refuse_huge(own, model_size)
        return size_in_proportion(self.H, self.W, own, multiple)


def size_in_proportion(
    height: int | None, width: int | None, own: tuple[int, int], multiple: int
) -> tuple[int, int] | None:
    """Return the height and width to resize an init image to; None is its own size.

    Args:
        height: ``--H``; None is in proportion to the width.
        width: ``--W``; None is in proportion to the height.
        own: The picture's height and width.
        multiple: What sides must be multiples of.

    Raises:
        UserError: The size is too large.
    """
    if height is None and width is None:
        return None
    asked = (
        height or _nearest(own[0] * width / own[1], multiple),
        width or _nearest(own[1] * height / own[0], multiple),
    )
    if max(asked) > LARGEST_SIDE or asked[0] * asked[1] > LARGEST_ASKED:
        raise UserError(
            f"--H {height} and --W {width} were given, which resizes --init-img to "
            f"{asked[1]}x{asked[0]}; expected at most {LARGEST_ASKED} pixels; give smaller ones"
        )
    return asked


def _nearest(side: float, multiple: int) -> int:
    return max(multiple, round(side / multiple) * multiple)


def _refuse_huge(own: tuple[int, int], model_size: int) -> None:
    height, width = own
    if height * width > LARGEST_UNASKED * model_size**2:
        largest = int(LARGEST_UNASKED**0.5) * model_size
        raise UserError(
            f"--init-img is {width}x{height} pixels, and the model was made for "
            f"{model_size}x{model_size}; expected about {largest}x{largest} at most; give the "
            f"size to draw at, such as --W {model_size}"
        )
