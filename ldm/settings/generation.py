"""What a user can choose: one schema for command lines, web pages and bots.

Each field of a settings class carries an ``Option``: its flag, help text, choices and range
(``ldm.settings.option``).
``ldm.settings.command_line`` makes a command line of them, ``validate`` checks them, and
``ldm.pipelines.infotext`` writes those with an ``infotext`` key into the picture.
Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ldm.errors import UserError
from ldm.settings.model_kind import ModelKind, Task
from ldm.settings.option import Settings, changed, device_option, option
from ldm.settings.samplers import SAMPLERS, SPACINGS, k_samplers

if TYPE_CHECKING:
    from typing import Self  # in typing from Python 3.11 on

SEED_MODES = ("compvis", "per-image")
DRAWING_GROUPS = {
    "prompt": "what to draw",
    "picture": "how to draw it",
    "model": "the model",
    "output": "what is written",
}
# The largest seed that NumPy's generator takes; torch takes more.
MAX_SEED = 2**32 - 1
# A run is planned in memory, and a slip of the finger must not fill it.
LONGEST_RUN = 10**6  # pictures
LARGEST_SIDE = 2**16  # pixels


@dataclass(frozen=True, kw_only=True)
class GenerationSettings(Settings):
    """What text-to-image and image-to-image share. Field names are the flags' names.

    ``None`` in ``C`` and ``f`` stands for the model's own value, in ``ckpt`` and ``config`` for
    the model that ``ldm.pipelines.models`` finds.

    Attributes:
        task: What is drawn; the kind of model says what draws it.
        wanted: What model that takes, in words.
    """

    groups: ClassVar[Mapping[str, str]] = DRAWING_GROUPS
    task: ClassVar[Task] = "text"
    wanted: ClassVar[str] = "one that draws from text"

    prompt: str = option(
        "a painting of a virus monster playing guitar", "the text to draw", group="prompt"
    )
    negative_prompt: str = option(
        "",
        "what the pictures should not show; takes the place of the empty prompt in guidance",
        shown="none",
        group="prompt",
    )
    from_file: str | None = option(
        None,
        "a UTF-8 text file with one prompt a line; each line is drawn once per iteration",
        str,
        flag="--from-file",
        group="prompt",
        metavar="FILE",
    )
    from_image: str | None = option(
        None,
        "draw a saved picture again from the settings stored in it; other flags given beside it "
        "replace single settings (--n_samples or --n_iter start an ordinary run)",
        str,
        flag="--from-image",
        group="prompt",
        metavar="FILE",
    )
    outdir: str = option(
        "outputs", "the folder that the pictures go to", group="output", metavar="FOLDER"
    )
    skip_grid: bool = option(
        False, "write single pictures only, no grid of all of them", group="output"
    )
    skip_save: bool = option(False, "write no single pictures, only the grid", group="output")
    format: str = option(
        "png",
        "file format of the pictures; jpg is smaller and loses a little",
        choices=("png", "jpg"),
        group="output",
    )
    sampler: str = option(
        "ddim",
        "the sampler that takes the steps; heun, dpm2 and dpm2_a run the model twice a step",
        choices=SAMPLERS,
        aliases=(("--plms", "plms"), ("--dpm_solver", "dpm_solver")),
        infotext="Sampler",
    )
    ddim_steps: int = option(
        50, "number of sampling steps, for every sampler", minimum=1, infotext="Steps"
    )
    spacing: str = option(
        "uniform",
        "how the steps are spread over the model's times; uniform is the reference's and may take "
        "a few steps more than asked (for the k-samplers heun to lms it is k-diffusion's and the "
        "same as linspace), linspace and trailing take exactly as many; karras spreads noise "
        "levels instead, for the k-samplers only",
        choices=SPACINGS,
        infotext="Schedule type",
    )
    ddim_eta: float = option(
        0.0,
        "noise added in each DDIM step: 0 is deterministic, 1 is DDPM's amount",
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
        "pictures per prompt and batch size (with --from-file the batch size)",
        minimum=1,
        maximum=LONGEST_RUN,
    )
    n_rows: int = option(
        0, "pictures side by side in the grid", minimum=0, shown="as many as n_samples"
    )
    fixed_code: bool = option(
        False,
        "start every batch from the same noise (per-image: every picture from the noise of --seed)",
        infotext="Fixed code",
    )
    C: int | None = option(None, "latent channels", int, minimum=1, shown="the model's; SD v1: 4")
    f: int | None = option(
        None,
        "how many times smaller than the picture the latent is",
        int,
        minimum=1,
        shown="the model's; SD v1: 8",
    )
    seed: int = option(
        42, "the seed of all random numbers", minimum=0, maximum=MAX_SEED, infotext="Seed"
    )
    seed_mode: str = option(
        "compvis",
        "compvis: one stream of random numbers for the run, as the reference; per-image: picture i "
        "uses seed + i alone and is the same whatever --n_samples is",
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
        "auto, cpu, cuda, cuda:1 or mps; auto is cuda where there is one, else cpu"
    )
    precision: str = option(
        "autocast",
        "autocast computes in float16 on cuda (elsewhere float32 all the same); full is float32",
        choices=("full", "autocast"),
        infotext="Precision",
        group="model",
    )
    safety_checker: str = option(
        "on",
        "black out pictures that the safety checker flags, where its weights are on this machine",
        choices=("on", "off"),
        group="output",
    )

    def validate(self) -> None:
        """Check each value and those that depend on one another.

        Raises:
            UserError: naming the flag, what it allows and what to do.
        """
        super().validate()
        self._check_walk()

    def _check_walk(self) -> None:
        """Check what the sampler allows beside it."""
        sampler = SAMPLERS[self.sampler]
        if sampler.eta == "must be 0" and self.ddim_eta != 0:
            raise UserError(
                f"--ddim_eta {self.ddim_eta} with --sampler {self.sampler} was given; ddim_eta "
                f"must be 0 for {sampler.label}, which adds no noise; leave it out or take "
                "--sampler ddim"
            )
        if not SPACINGS[self.spacing].times and not sampler.karras:
            raise UserError(
                f"--spacing {self.spacing} with --sampler {self.sampler} was given; "
                f"{self.spacing} is for {', '.join(k_samplers())}; take one of them or another "
                "--spacing"
            )

    def notices(self, prompts: Sequence[str] = ()) -> list[str]:  # noqa: ARG002 - for subclasses
        """List settings that have no effect beside the others, a sentence each.

        Args:
            prompts: Those that the run draws.
        """
        found = []
        if SAMPLERS[self.sampler].eta == "ignored" and self.ddim_eta != 0:
            found.append(f"--ddim_eta {self.ddim_eta} has no effect on --sampler {self.sampler}")
        if self.negative_prompt and self.scale == 1.0:
            found.append("--negative_prompt has no effect at --scale 1, which turns guidance off")
        return found

    # What programs with other habits override.

    @property
    def wants_text(self) -> bool:
        """Whether the pictures are drawn from a prompt."""
        return True

    def draws_with(self, kind: ModelKind) -> bool:
        """Tell whether a kind of model can draw what these settings ask for."""
        return self.task in kind.walks

    @property
    def low_memory(self) -> bool:
        """Whether the model's stages take turns on the device."""
        return False

    @property
    def takes_folder(self) -> bool:
        """Whether init images come from a folder, one after another."""
        return False

    def suited(self, kind: ModelKind, named: Collection[str]) -> Self:  # noqa: ARG002
        """Return these settings with what depends on the kind of model filled in.

        Args:
            kind: The model's.
            named: Settings that the user gave.

        Raises:
            UserError: something given, or not given, that such a model cannot draw with.
        """
        return self

    def with_seed(self) -> Self:
        """Return these settings with a seed, where that is left to chance."""
        return self

    @property
    def per_line(self) -> int:
        """How many pictures each line of a prompt file becomes, every iteration."""
        return 1

    def mixture(self, prompt: str) -> list[tuple[str, float]]:
        """Return the texts that a prompt is encoded as, and their shares, which sum to 1."""
        return [(prompt, 1.0)]


@dataclass(frozen=True, kw_only=True)
class Txt2ImgSettings(GenerationSettings):
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
        """Check as ``GenerationSettings.validate``, and that one model is asked for."""
        super().validate()
        if self.laion400m and (self.config or self.ckpt):
            raise UserError(
                "--laion400m names its own model, yet --config or --ckpt was given too; "
                "give one or the other"
            )


@dataclass(frozen=True, kw_only=True)
class Img2ImgSettings(GenerationSettings):
    """Settings of image-to-image: ``init_img`` is needed, its size is the pictures' size.

    Attributes:
        keeps_size: The picture is padded for the model and cut back, not resized.

    Example:
        >>> Img2ImgSettings(init_img="sketch.png").strength
        0.75
    """

    program: ClassVar[str] = "img2img"
    task: ClassVar[Task] = "image"
    keeps_size: ClassVar[bool] = False

    outdir: str = changed(GenerationSettings, "outdir", default="outputs/img2img-samples")
    init_img: str | None = option(
        None,
        "the picture to start from; resized to the next smaller multiples of 64 pixels",
        str,
        flag="--init-img",
        shown="none, it has to be given",
        group="prompt",
        metavar="FILE",
    )
    strength: float = option(
        0.75,
        "how much of the picture to draw anew: 0 keeps it, 1 starts from noise",
        minimum=0.0,
        maximum=1.0,
        infotext="Denoising strength",
        group="prompt",
    )
    scale: float = changed(GenerationSettings, "scale", default=5.0)
    n_iter: int = changed(GenerationSettings, "n_iter", default=1)
    n_samples: int = changed(GenerationSettings, "n_samples", default=2)

    def target_size(
        self,
        own: tuple[int, int],  # noqa: ARG002 - for subclasses
        model_size: int,  # noqa: ARG002
        multiple: int,  # noqa: ARG002
    ) -> tuple[int, int] | None:
        """Return the height and width to resize the init image to, in pixels.

        None is its own size, brought down to multiples.

        Args:
            own: Its height and width.
            model_size: The side that the model was made for.
            multiple: What sides must be multiples of.
        """
        return None
