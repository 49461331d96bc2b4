"""What a user can choose: one schema for command lines, web pages and bots.

Each field of a settings class carries an ``Option``: its flag, help text, choices and range
(``ldm.settings.option``).
``ldm.settings.command_line`` makes a command line of them, ``validate`` checks them, and
``ldm.pipelines.infotext`` writes those with an ``infotext`` key into the picture.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ldm.errors import UserError
from ldm.settings.adapters import AdapterSettings, notices_on_adapters
from ldm.settings.faces import FaceSettings, notices_on_faces
from ldm.settings.hires import HiresSettings
from ldm.settings.language import (
    Originals,
    clip_skip_option,
    emphasis_option,
    glossary_option,
    notices_on_emphasis,
    prompt_lang_option,
    prompt_syntax_option,
    translator_option,
    wildcards_option,
)
from ldm.settings.model_kind import Task
from ldm.settings.option import MAX_SEED, changed, device_option, max_pixels_option, one_of, option
from ldm.settings.samplers import SAMPLERS, SPACINGS, check_walk, notices_on_few_steps
from ldm.settings.shortcuts import GROUP, HEADING, ShortcutSettings, notices_on_shortcuts
from ldm.settings.speed import SpeedSettings
from ldm.settings.variation import VariationSettings

SEED_MODES = ("compvis", "per-image")
REFERENCES_MAX_SEED = 2**32 - 1
_TWICE = one_of([name for name, entry in SAMPLERS.items() if entry.calls == 2], "and")
DRAWING_GROUPS = {
    "prompt": "what to draw",
    "picture": "how to draw it (scale, sampler, steps, spacing, size, clip skip: what the model's "
    "YAML says suits it, else these defaults)",
    "adapters": "what acts on the model besides",
    GROUP: HEADING,
    "model": "the model",
    "output": "what is written",
}
PRECISIONS = ("full", "autocast", "auto", "bfloat16", "float16", "int8")
WATERMARKS = ("reference", "gentle", "off")
# A run is planned in memory, and a typo must not fill it.
LONGEST_RUN = 10**6  # pictures
LARGEST_SIDE = 2**16  # pixels


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(
    ShortcutSettings, SpeedSettings, AdapterSettings, FaceSettings, VariationSettings
):
    """What text-to-image and image-to-image share. Field names are the flags' names.

    ``None`` in ``C`` and ``f`` stands for the model's own value, in ``ckpt`` and ``config`` for
    the model that ``ldm.pipelines.models`` finds.

    Attributes:
        originals: What the prompts were translated from; no option, but the run's own note.
        on_language: What is to be said of the prompts' language, likewise.
        template: What ``wildcards`` drew the prompt from, as ``negative_template``; likewise.
    """

    groups: ClassVar[Mapping[str, str]] = DRAWING_GROUPS

    prompt: str = option(
        "a painting of a virus monster playing guitar", "the text prompt", group="prompt"
    )
    negative_prompt: str = option(
        "",
        "what the pictures should not show; takes the place of the empty prompt in guidance",
        shown="none",
        group="prompt",
    )
    wildcards: str | None = wildcards_option()
    template: str = ""
    negative_template: str = ""
    prompt_lang: str = prompt_lang_option()
    glossary: str | None = glossary_option()
    translator: str | None = translator_option()
    originals: Originals = ()
    on_language: tuple[str, ...] = ()
    from_file: str | None = option(
        None,
        "a UTF-8 text file with one prompt per line; each line is drawn once per iteration",
        str,
        flag="--from-file",
        group="prompt",
        metavar="FILE",
    )
    from_image: str | None = option(
        None,
        "redraw a saved picture from the settings stored in it, by this or by another program; "
        "other flags override single settings (--n_samples or --n_iter start an ordinary run)",
        str,
        flag="--from-image",
        group="prompt",
        metavar="FILE",
    )
    max_pixels: int = max_pixels_option(group="prompt")
    prompt_syntax: str = prompt_syntax_option()
    clip_skip: int = clip_skip_option()
    emphasis: str = emphasis_option()
    outdir: str = option(
        "outputs", "the folder to write pictures to", group="output", metavar="FOLDER"
    )
    skip_grid: bool = option(
        False, "write single pictures only, no grid of all of them", group="output"
    )
    skip_save: bool = option(False, "write no single pictures, only the grid", group="output")
    format: str = option(
        "png",
        "file format of the pictures; jpg is smaller and lossy",
        choices=("png", "jpg"),
        group="output",
    )
    sampler: str = option(
        "ddim",
        f"the sampler; {_TWICE} run the model twice per step",
        choices=SAMPLERS,
        aliases=(("--plms", "plms"), ("--dpm_solver", "dpm_solver")),
        infotext="Sampler",
    )
    ddim_steps: int = option(
        50, "number of sampling steps, for every sampler", minimum=1, infotext="Steps"
    )
    spacing: str = option(
        "uniform",
        "how the steps are spread over the model's timesteps; uniform is the reference's and may "
        "take a few more steps than asked (for the k-samplers, heun to restart, it is "
        "k-diffusion's, the same as linspace); linspace and trailing take exactly as many; karras "
        "and those after it space noise levels instead, for the k-samplers only",
        choices=SPACINGS,
        infotext="Schedule type",
    )
    ddim_eta: float = option(
        0.0,
        "noise added in each DDIM step: 0 is deterministic, 1 is DDPM's amount; for tcd it is the "
        "paper's gamma",
        minimum=0.0,
        maximum=1.0,
        infotext="Eta",
    )
    scale: float = option(
        7.5,
        "guidance scale: eps = eps(empty) + scale * (eps(prompt) - eps(empty)); 1 turns it off",
        infotext="CFG scale",
    )
    n_iter: int = option(
        2, "how many times to go through the prompts", minimum=1, maximum=LONGEST_RUN
    )
    n_samples: int = option(
        3,
        "pictures per prompt, drawn in one batch (with --from-file: the batch size)",
        minimum=1,
        maximum=LONGEST_RUN,
    )
    n_rows: int = option(0, "pictures per row of the grid", minimum=0, shown="as many as n_samples")
    fixed_code: bool = option(
        False,
        "start every batch from the same noise (per-image: every picture from the noise of --seed)",
        infotext="Fixed code",
    )
    C: int | None = option(None, "latent channels", int, minimum=1, shown="the model's; SD v1: 4")
    f: int | None = option(
        None,
        "downsampling factor from picture to latent",
        int,
        minimum=1,
        shown="the model's; SD v1: 8",
    )
    seed: int = option(
        42, "the seed of all random numbers", minimum=0, maximum=MAX_SEED, infotext="Seed"
    )
    seed_mode: str = option(
        "compvis",
        "compvis: one stream of random numbers for the run, as in the reference; per-image: "
        "picture i uses seed + i only and is the same for every --n_samples",
        choices=SEED_MODES,
        infotext="Seed mode",
    )
    config: str | None = option(
        None,
        "the YAML that describes the model",
        str,
        shown="beside the checkpoint, else configs/stable-diffusion/v1-inference.yaml",
        group="model",
        metavar="FILE",
    )
    trust_config: bool = option(
        False,
        "let a YAML that is found beside the checkpoint name any code: what it names is run; one "
        "given by --config may do so anyway",
        group="model",
    )
    ckpt: str | None = option(
        None,
        "the checkpoint: .ckpt, .safetensors or a diffusers folder",
        str,
        shown="models/ldm/stable-diffusion-v1/model.ckpt, else the bundled demo model",
        group="model",
        metavar="FILE",
    )
    use_ema: bool = option(
        False,
        "use the averaged (EMA) weights of a checkpoint that holds both",
        infotext="EMA",
        group="model",
    )
    device: str = device_option(
        "auto, cpu, cuda, cuda:1 or mps; auto is cuda if available, else cpu"
    )
    precision: str = option(
        "autocast",
        "autocast computes in float16 on cuda (in float32 elsewhere); full is float32; bfloat16 "
        "and float16 are these on any device; auto is float16 on cuda, and on a processor the one "
        "that it multiplies fastest, measured once in 0.1 s; int8 computes the denoiser's layers "
        "in 8-bit integers, on processors only",
        choices=PRECISIONS,
        infotext="Precision",
        group="model",
    )
    safety_checker: str = option(
        "on",
        "black out pictures that the safety checker flags, if its weights are on this machine",
        choices=("on", "off"),
        group="output",
    )
    watermark: str = option(
        "reference",
        "the invisible watermark of pictures of 256x256 pixels or more: reference is embedded as "
        "the reference does, gentle is read by the same programs and changes the picture less, off "
        "leaves it out",
        choices=WATERMARKS,
        infotext="Watermark",
        group="output",
    )

    @property
    def drawn_prompts(self) -> tuple[str, ...]:
        """The prompts that a picture of the run is drawn from, each by itself."""
        return (self.prompt,)

    def validate(self) -> None:
        """Check each value, and those that depend on one another.

        Raises:
            UserError: naming the flag, what it allows and what to do.
        """
        super().validate()
        check_walk(self.sampler, self.spacing, self.ddim_eta, "--ddim_eta")

    def notices(self, prompts: Sequence[str] = ()) -> list[str]:  # noqa: ARG002 - for subclasses
        """List settings that have no effect in this combination, one sentence each.

        Args:
            prompts: Those that the run draws.
        """
        found = []
        if SAMPLERS[self.sampler].eta == "ignored" and self.ddim_eta != 0:
            found.append(f"--ddim_eta {self.ddim_eta} has no effect on --sampler {self.sampler}")
        if self.negative_prompt and self.scale == 1.0:
            found.append("--negative_prompt has no effect at --scale 1, which turns guidance off")
        found += notices_on_adapters(self) + notices_on_shortcuts(self) + notices_on_faces(self)
        found += self.notices_on_variation()
        found += notices_on_emphasis(self.emphasis, self.prompt_syntax)
        found += notices_on_few_steps(self.sampler, self.ddim_steps, self.scale)
        if self.seed_mode == "compvis" and (self.seed or 0) > REFERENCES_MAX_SEED:
            found.append(
                f"--seed {self.seed} is above {REFERENCES_MAX_SEED}, the most that the reference's "
                f"scripts take; --seed_mode per-image is the mode for seeds up to {MAX_SEED}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Txt2ImgSettings(HiresSettings, GenerationSettings):
    """Settings of text-to-image; ``None`` in ``H`` and ``W`` is the size the model was made for.

    Example:
        >>> Txt2ImgSettings(prompt="a red apple", sampler="plms").ddim_steps
        50
    """

    program: ClassVar[str] = "txt2img"

    outdir: str = changed(GenerationSettings, "outdir", default="outputs/txt2img-samples")
    H: int | None = option(
        None,
        "height in pixels",
        int,
        minimum=1,
        maximum=LARGEST_SIDE,
        shown="the model's own size; SD v1: 512",
    )
    W: int | None = option(
        None,
        "width in pixels",
        int,
        minimum=1,
        maximum=LARGEST_SIDE,
        shown="the model's own size; SD v1: 512",
    )
    laion400m: bool = option(
        False,
        "use the LAION-400M model: configs/latent-diffusion/txt2img-1p4B-eval.yaml with "
        "models/ldm/text2img-large/model.ckpt, into outputs/txt2img-samples-laion400m",
        group="model",
    )

    def validate(self) -> None:
        """Check as ``GenerationSettings.validate``, and that only one model is asked for."""
        super().validate()
        if self.laion400m and (self.config or self.ckpt):
            raise UserError(
                "--laion400m names its own model, yet --config or --ckpt was given too; "
                "give one or the other"
            )


@dataclass(frozen=True, kw_only=True)
class Img2ImgSettings(GenerationSettings):
    """Settings of image-to-image: ``init_img`` is required, and its size is the pictures' size.

    Attributes:
        keeps_size: Whether the picture is padded for the model and cropped back, not resized.

    Example:
        >>> Img2ImgSettings(init_img="sketch.png").strength
        0.75
    """

    program: ClassVar[str] = "img2img"
    task: ClassVar[Task] = "image"
    init: ClassVar[Literal["none", "required", "optional"]] = "required"
    keeps_size: ClassVar[bool] = False

    outdir: str = changed(GenerationSettings, "outdir", default="outputs/img2img-samples")
    init_img: str | None = option(
        None,
        "the picture to start from; its sides are reduced to multiples of 64 pixels",
        str,
        flag="--init-img",
        shown="none, required",
        group="prompt",
        metavar="FILE",
    )
    strength: float = option(
        0.75,
        "how much to change the picture: 0 keeps it, 1 starts from noise",
        minimum=0.0,
        maximum=1.0,
        infotext="Denoising strength",
        group="prompt",
    )
    # The reference marks what it draws from text, and nothing else.
    watermark: str = changed(GenerationSettings, "watermark", default="gentle")
    scale: float = changed(GenerationSettings, "scale", default=5.0)
    n_iter: int = changed(GenerationSettings, "n_iter", default=1)
    n_samples: int = changed(GenerationSettings, "n_samples", default=2)

    def size_before_padding(
        self,
        own: tuple[int, int],
        model_size: int,  # noqa: ARG002 - for subclasses
        multiple: int,  # noqa: ARG002
    ) -> tuple[int, int]:
        """Return the height and width that a picture is brought to before it is padded, in pixels.

        Args:
            own: Its height and width.
            model_size: The side that the model was made for.
            multiple: What sides must be multiples of.
        """
        return own

    def target_size(
        self,
        own: tuple[int, int],  # noqa: ARG002 - for subclasses
        model_size: int,  # noqa: ARG002
        multiple: int,  # noqa: ARG002
    ) -> tuple[int, int] | None:
        """Return the height and width to resize the init image to, in pixels.

        None is its own size, rounded down to multiples.

        Args:
            own: Its height and width.
            model_size: The side that the model was made for.
            multiple: What sides must be multiples of.
        """
        return None
