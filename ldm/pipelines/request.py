"""What is wanted of a run, complete and checked: made once, without torch.

    settings -> a model for them -> what suits the model -> prompts, init image -> Request

Programs make theirs from a command line, ``Pipeline.prepare`` from settings.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ldm.budgets import QUOTED
from ldm.errors import UserError
from ldm.legible import legible
from ldm.paths import is_file
from ldm.pipelines.batches import Batch, Place, check_length, plan, read_prompts, replay
from ldm.pipelines.infotext import Recorded, read_picture
from ldm.pipelines.init_image import InitImage, fit_init_image, read_init_image
from ldm.pipelines.models import (
    DEMO_CHECKPOINT,
    FILL_CHECKPOINT,
    LAION_OUTDIR,
    ModelChoice,
    choose_model,
    find,
    resolve,
)
from ldm.pipelines.translating import in_models_language
from ldm.settings.generation import GenerationSettings
from ldm.settings.option import options_of
from ldm.settings.suiting import suiting

if TYPE_CHECKING:  # most runs have none
    from torch import nn

    from ldm.pipelines.adapter_plan import AdapterPlan
    from ldm.pipelines.masks import Mask
    from ldm.pipelines.wildcards import Drawn

# A grid holds every picture of the run in memory, and viewers give up on larger ones.
LARGEST_GRID = 1000
LARGEST_GRID_PIXELS = LARGEST_GRID * 512**2
LONG_RUN = 2e12  # FLOP: several seconds
_FLOP = 0.23  # for each weight and latent position: v1 has 0.80 TFLOP, 0.86 G weights, 64x64


@dataclass(frozen=True)
class Request:
    """What is wanted of a run.

    Attributes:
        settings: Complete and checked.
        choice: The model that it is for.
        prompts: One per picture of an iteration; of the run, where they were drawn from templates.
        image: What image-to-image starts from, fitted to the model; also None if a folder of
            images is given.
        place: The one picture of a recorded run to redraw.
        recorded: What the picture of ``--from-image`` says about how it was made.
        device_is_recorded: Whether the device is the recorded picture's, not one that the user
            named.
        notices: Warnings for the user.
        suited: Settings that are the model's own, as the user named none.
        adapters: What acts on the model besides; None is nothing.
        templates: What the prompts were drawn from, one per picture of an iteration.
        negatives: The negative prompts of the run's pictures; empty where all have the settings'.
    """

    settings: GenerationSettings
    choice: ModelChoice
    prompts: Sequence[str]
    image: InitImage | None = None
    place: Place | None = None
    recorded: Recorded | None = None
    device_is_recorded: bool = False
    notices: list[str] = field(default_factory=list)
    suited: Mapping[str, Any] = field(default_factory=dict)
    adapters: AdapterPlan | None = None
    templates: Sequence[str] = ()
    negatives: Sequence[str] = ()

    @cached_property
    def batches(self) -> list[Batch]:
        """What is drawn, in order."""
        if self.place is not None:
            return replay(self.place, self.settings.prompt)
        batches = plan(self.settings, self.typed)
        if not self.templates:
            return batches
        from ldm.pipelines.wildcards import with_draws

        return with_draws(batches, self.prompts, self.negatives)

    @property
    def typed(self) -> Sequence[str]:
        """What the prompts of an iteration's pictures are, or are drawn from."""
        return self.templates or self.prompts

    @property
    def negative_prompts(self) -> list[str]:
        """The different negative prompts of the run."""
        return list(dict.fromkeys(self.negatives or [self.settings.negative_prompt]))

    @property
    def rows(self) -> int:
        """The largest number of pictures drawn at a time."""
        return max((len(batch.prompts) for batch in self.batches if batch.kept), default=1)

    @property
    def attached(self) -> Collection[str]:
        """Tags of the prompts, as they are written, that name files which are attached."""
        return () if self.adapters is None else self.adapters.tags

    @cached_property
    def rows_per_picture(self) -> int:
        """How many rows of a picture the UNet is given at once: the prompt's parts, guidance."""
        settings = self.settings
        if settings.batch_cfg == "off":
            return 1  # one part after the other
        if settings.prompt_syntax == "compvis":
            return 1 if settings.scale == 1.0 else 2
        from ldm.pipelines.prompt_notices import rows_of

        return max(rows_of(settings, text) for text in dict.fromkeys(self.prompts))

    @property
    def pictures(self) -> int:
        """How many pictures the run draws."""
        return len(self.typed) * self.settings.n_iter if self.place is None else 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that the model draws, in pixels."""
        if self.image is None:
            return self.settings.H, self.settings.W
        return self.image.pixels.height, self.image.pixels.width

    @property
    def final_size(self) -> tuple[int, int]:
        """Height and width that the model draws last, in pixels: the largest."""
        return self.settings.final_size(self.size, self.choice.multiple)

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width of the finished pictures, without padding."""
        return self.final_size if self.image is None else self.image.size[::-1]

    @property
    def recorded_size(self) -> tuple[int, int]:
        """The same, but the first walk's where there are two: what pictures record."""
        return self.size if self.image is None else self.shown_size

    def is_long(self, model: nn.Module) -> bool:
        """Return whether the run takes so long on a processor that 0.1 s for it are nothing.

        Its work is estimated, within a factor of two for UNets of v1's kind.

        Args:
            model: What draws.
        """
        if self.settings.takes_folder:
            return True  # of what pictures, their files tell one by one
        weights = sum(weight.numel() for weight in model.model.parameters())
        rows = self.pictures * self.rows_per_picture
        return _FLOP * weights * rows * self.pixel_steps / (self.settings.f or 8) ** 2 >= LONG_RUN

    @property
    def pixel_steps(self) -> int:
        """The pixels of a picture times its steps, of both walks where there are two."""
        settings, (height, width) = self.settings, self.size
        first = height * width * settings.ddim_steps
        if self.final_size == self.size:
            return first
        height, width = self.final_size
        return first + height * width * settings.hires_walk_steps

    @property
    def wants_grid(self) -> bool:
        """Whether the run ends with a grid."""
        settings = self.settings
        grid = not (settings.skip_grid or settings.takes_folder) and self.place is None
        return grid and self.grid_fits

    @property
    def grid_fits(self) -> bool:
        """Whether a grid of the run's pictures is not too large."""
        pixels = self.pictures * prod(self.shown_size) if not self.settings.takes_folder else 0
        return self.pictures <= LARGEST_GRID and pixels <= LARGEST_GRID_PIXELS

    def model_notice(self) -> str | None:
        """Return a warning if the picture to redraw was made by another model."""
        recorded = self.recorded
        if recorded is None or (recorded.model_hash is None and recorded.model is None):
            return None
        own, theirs = self.choice.name, legible(recorded.model or "None", QUOTED)
        if recorded.model_hash is not None:
            short = self.choice.fingerprint.short
            if recorded.model_hash == short:
                return None
            own, theirs = f"{own} ({short})", f"{theirs} ({legible(recorded.model_hash, QUOTED)})"
        elif own in (theirs, Path(theirs).stem):
            return None
        return (
            f"the picture was made by model {theirs}, this is {own}: it will not be the same; give "
            "its checkpoint with --ckpt"
        )


def prepare(
    settings: GenerationSettings,
    choice: ModelChoice | None = None,
    *,
    named: Collection[str] | None = None,
    prompts: Sequence[str] | None = None,
    image: Image.Image | InitImage | None = None,
    mask: Image.Image | Mask | None = None,
    place: Place | None = None,
) -> Request:
    """Complete and check what a run is to draw.

    Args:
        settings: What to draw; they name the files for what is not given here.
        choice: The model; None finds the one that the settings ask for.
        named: Settings that the user gave; the others are set to suit the kind of model, and to
            what its YAML says suits it. None leaves all unchanged.
        prompts: One per picture of an iteration.
        image: What to start from.
        mask: The part to repaint, in white.
        place: Draw only the picture at this place of a run, as that run drew it.

    Raises:
        UserError: settings that contradict each other or the model, or files that are not there.
    """
    settings = settings.with_seed()
    settings.validate()
    if choice is None:
        choice = choose_model(settings)
    own = {}
    if named is not None:
        settings = settings.suited(choice.kind, named)
        own = suiting(settings, choice.sampling, named)
        settings = replace(settings, **own)
    if place is not None:
        settings, prompts = replace(settings, n_samples=place.n_samples), [settings.prompt]
    elif prompts is None:
        prompts = read_prompts(settings)
    check_length(settings, len(prompts))
    drawn = _drawn(settings, prompts, place)
    if drawn is not None:
        settings, prompts = drawn.settings, drawn.prompts
    fitted = None if settings.takes_folder else read_init_image(settings, image, mask)
    settings = resolve(settings, choice)
    _check_networks(settings, choice)
    if drawn is None:
        settings, prompts = in_models_language(settings, prompts, choice.languages)
    else:
        drawn = replace(drawn, settings=settings).in_language(choice.languages)
        settings, prompts = drawn.settings, drawn.prompts
    if fitted is not None:
        fitted = _fitted(fitted, settings, choice)
    rest = {} if drawn is None else {"templates": drawn.templates, "negatives": drawn.negatives}
    made = Request(settings, choice, prompts, fitted, place, suited=own, **rest)
    return replace(made, adapters=_planned(settings, prompts, made.negative_prompts))


def _drawn(
    settings: GenerationSettings, prompts: Sequence[str], place: Place | None
) -> Drawn | None:
    """Draw the prompts from templates, where ``wildcards`` asks for it."""
    if settings.wildcards is None:
        return None
    from ldm.pipelines.wildcards import draw_prompts  # most prompts are as they are typed

    return draw_prompts(settings, prompts, place)


def _check_networks(settings: GenerationSettings, choice: ModelChoice) -> None:
    files = "hires", "network", "restore_faces", "decoder"
    if any(getattr(settings, name, None) for name in files):
        from ldm.pipelines.networks import check_networks  # most pictures are drawn once

        check_networks(settings, choice)


def _fitted(image: InitImage, settings: GenerationSettings, choice: ModelChoice) -> InitImage:
    if settings.task != "mask" or not settings.lays_out:
        return fit_init_image(image, settings, choice)
    from ldm.pipelines.only_masked import laid_out

    return laid_out(image, settings, choice)


def _planned(
    settings: GenerationSettings, prompts: Sequence[str], negatives: Sequence[str]
) -> AdapterPlan | None:
    typed = settings.drawn_prompts if settings.wildcards is None else ()  # else a template
    if not settings.may_adapt([*typed, *prompts, *negatives]):
        return None
    from ldm.pipelines.adapter_plan import plan_adapters

    if negatives != [settings.negative_prompt]:  # names of embeddings may stand in each
        settings = replace(settings, negative_prompt=", ".join(negatives))
    return plan_adapters(settings, [*typed, *prompts])


def prepare_from_flags(schema: type[GenerationSettings], given: Mapping[str, Any]) -> Request:
    """Complete and check what a command line asks for.

    Args:
        schema: The program's settings class.
        given: Settings given explicitly, by field name.

    Raises:
        UserError: as in ``prepare``, or if a picture cannot be redrawn.
    """
    values, place, recorded, notices = dict(given), None, None, []
    choice = None
    if given.get("from_image") is not None:
        from ldm.pipelines.made_by import fit_size  # only redrawing needs it

        recorded = read_picture(given["from_image"], schema, given)
        values, place = recorded.rerun(given)
        values = _as_recorded(recorded, values, given)
        notices += recorded.notices
        # What a picture leaves unsaid is the usual, whatever its model would like today.
        choice = replace(choose_model(schema(**values)), sampling={})
        values, refitted = fit_size(values, given, choice.multiple)
        notices += refitted
    if given.get("laion400m"):
        values.setdefault("outdir", LAION_OUTDIR)
    if {"prompt", "from_file"} <= given.keys():
        notices.append(f"--prompt is not used: the prompts come from {given['from_file']}")
    with _blamed_on(recorded, schema, given):
        request = prepare(schema(**values), choice, named=values.keys(), place=place)
    if recorded is None:
        notices += _notices_on_templates(request)
    if not request.grid_fits and not request.settings.skip_grid:
        notices.append(
            f"no grid is made of {request.pictures} pictures; the limit is {LARGEST_GRID}, or "
            f"{LARGEST_GRID_PIXELS} pixels"
        )
    own_device = recorded is not None and "device" not in given
    return replace(request, recorded=recorded, device_is_recorded=own_device, notices=notices)


def _notices_on_templates(request: Request) -> Iterator[str]:
    settings = request.settings
    texts = dict.fromkeys([*request.prompts, settings.negative_prompt])
    takes = any(each.name == "wildcards" for each in options_of(settings))
    if takes and settings.wildcards is None and any("__" in text or "{" in text for text in texts):
        from ldm.pipelines.wildcards import notices_on_plain  # few prompts look like templates

        yield from notices_on_plain(texts)


@contextmanager
def _blamed_on(
    recorded: Recorded | None, schema: type[GenerationSettings], given: Mapping[str, Any]
) -> Iterator[None]:
    """Say of a setting that cannot be drawn that the picture records it, if no flag was given."""
    try:
        yield
    except UserError as error:
        names = () if recorded is None else recorded.values.keys() - given.keys()
        flag, _, rest = str(error).partition(" ")
        flags = {each.flag for each in options_of(schema) if each.name in names}
        if flag not in flags:
            raise
        raise UserError(
            f"--from-image {given['from_image']} records {flag} {rest.replace(' was given', '', 1)}"
        ) from error


def _as_recorded(
    recorded: Recorded, values: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Add what the recorded picture implies: its file format, and its model if it has a place."""
    added: dict[str, Any] = {}
    if Path(given["from_image"]).suffix.lower() in (".jpg", ".jpeg"):
        added["format"] = "jpg"
    if recorded.device in ("cpu", "cuda", "mps"):
        added["device"] = recorded.device
    for usual in (DEMO_CHECKPOINT, FILL_CHECKPOINT):
        there = find(usual)
        if recorded.model == there.parent.name and is_file(there) and "config" not in given:
            added["ckpt"] = usual
    return {**added, **values}
