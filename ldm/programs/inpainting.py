"""The program that repaints: one picture with its mask, or a folder of them, with text or without.

    arguments -> model (what kind is it?) -> every picture and mask looked at -> torch -> drawn

Imports no torch by itself.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ldm.errors import UserError
from ldm.programs.drawing import DrawingProgram
from ldm.settings.inpaint import OWN_VALUES, InpaintSettings
from ldm.settings.model_kind import ModelKind
from ldm.settings.option import changed, option

if TYPE_CHECKING:  # these import NumPy, Pillow and OmegaConf, which --help can do without
    from typing import Self  # in typing from Python 3.11 on

    from ldm.pipelines.pipeline import Pipeline
    from ldm.pipelines.progress import Notice, Progress
    from ldm.pipelines.request import Job
    from ldm.programs.console import Console
    from ldm.programs.output import OutputFolder
    from ldm.programs.pairs import Pair


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
        shown="none: the hole is filled from what is around it, by a model that takes no text",
    )
    indir: str | None = option(
        None,
        "a folder of pictures X.png with their masks X_mask.png, in place of --init-img and "
        "--mask; each becomes X.png in --outdir",
        str,
        group="prompt",
        metavar="FOLDER",
    )
    init_img: str | None = changed(
        InpaintSettings,
        "init_img",
        help="the picture to repaint, of any size: what --mask keeps of it stays as it is",
        shown="none, it has to be given unless --indir is",
    )
    mask: str | None = changed(
        InpaintSettings, "mask", shown="none, it has to be given unless --indir is"
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
        shown="without --prompt models/ldm/inpainting_big/last.ckpt; with it the first that is "
        "there of models/ldm/stable-diffusion-v1/sd-v1-5-inpainting.ckpt, model.ckpt beside it, "
        "the bundled demo model",
    )
    config: str | None = changed(
        InpaintSettings,
        "config",
        shown="beside the checkpoint, else the one of configs/stable-diffusion that fits it",
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
        """Return these settings with scale, strength and number as the model and folder want them.

        Args:
            kind: The model's.
            named: Settings that the user gave.

        Raises:
            UserError: no prompt for a model that draws from text.
        """
        if kind is not ModelKind.FILL and not self.wants_text:
            raise UserError(
                f"no --prompt was given, and {self.ckpt or self.config} draws from text; expected "
                'what to draw; add --prompt TEXT, or --prompt "" to leave it to the model'
            )
        own = {**OWN_VALUES[kind], **({"n_samples": 1} if self.takes_folder else {})}
        left = {name: value for name, value in own.items() if name not in named}
        return replace(self, prompt=self.prompt or "", **left)

    def of(self, pair: Pair) -> Self:
        """Return the settings that draw one pair of the folder."""
        return replace(self, indir=None, init_img=str(pair.picture), mask=str(pair.mask))


class InpaintProgram(DrawingProgram):
    """Repaints one picture as other programs draw, or the pairs of a folder one after another."""

    def __init__(self) -> None:
        super().__init__(InpaintProgramSettings)
        self._pairs: list[Pair] = []

    def make_output(self, job: Job) -> OutputFolder:
        """Return where pictures go; of a folder, look at every pair first."""
        settings = job.settings
        self.console.say(job.choice.kind.sentence(job.choice.inputs))
        if settings.format == "jpg":
            self.console.warn(
                "--format jpg changes every pixel a little, also where the mask keeps them"
            )
        if not settings.takes_folder:
            return super().make_output(job)
        from ldm.programs.pairs import PairedOutput, find_pairs

        self._pairs = find_pairs(settings.indir)
        for pair in self._pairs:
            _look_at(job, pair)
        return PairedOutput(settings.outdir, settings.format, self._pairs, job.pictures)

    def draw(self, job: Job, pipeline: Pipeline) -> None:
        """Draw the pictures and write each as it is done."""
        if not job.settings.takes_folder:
            super().draw(job, pipeline)
            return
        self.announce(job, pipeline)
        course = _Course(self.console, len(self._pairs))
        for number, pair in enumerate(self._pairs):
            course.begun = number
            drawn = pipeline.generate(
                job.settings.of(pair), prompts=job.prompts, observer=course.observe
            )
            with closing(drawn):
                for picture in drawn:
                    self.output.put(pair, picture)


def _look_at(job: Job, pair: Pair) -> None:
    """Make sure that a pair can be drawn; it is read again when its turn comes.

    Raises:
        UserError: one of its files is no picture, or the mask does not fit or marks nothing.
    """
    from ldm.pipelines.init_image import fit_init_image, read_init_image

    settings = job.settings.of(pair)
    fit_init_image(read_init_image(settings, None, None), settings, job.choice)


@dataclass
class _Course:
    """One progress bar and one telling of each notice over the runs of a folder.

    Attributes:
        console: Where they are shown.
        total: How many runs there are, all of the same length.
        begun: How many are done.
    """

    console: Console
    total: int
    begun: int = 0
    _told: set[str] = field(default_factory=set)

    def observe(self, event: Notice | Progress) -> None:
        """Show one event of the present run."""
        from ldm.pipelines.progress import Progress

        if isinstance(event, Progress):
            event = Progress(
                self.begun * event.total + event.done,
                self.total * event.total,
                self.begun * event.total_pictures + event.pictures,
                self.total * event.total_pictures,
            )
        elif event.text in self._told:
            return
        else:
            self._told.add(event.text)
        self.console.observe(event)
