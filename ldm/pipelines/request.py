"""All that can be decided about a command-line run before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ldm.pipelines.batches import Place, check_length, read_prompts
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
from ldm.settings.generation import GenerationSettings

# A grid holds every picture of the run in memory, and viewers give up on larger ones.
LARGEST_GRID = 1000


@dataclass(frozen=True)
class Job:
    """A run that is ready to begin.

    Attributes:
        settings: Complete and checked.
        choice: The model to load.
        prompts: One per picture of an iteration.
        image: What image-to-image starts from; None as well where there is a folder of them.
        place: The one picture of a recorded run to draw again.
        recorded: What the picture of ``--from-image`` says about its making.
        device_is_recorded: The device is the recorded picture's, not one that the user named.
        notices: Warnings for the user.
    """

    settings: GenerationSettings
    choice: ModelChoice
    prompts: Sequence[str]
    image: InitImage | None = None
    place: Place | None = None
    recorded: Recorded | None = None
    device_is_recorded: bool = False
    notices: list[str] = field(default_factory=list)

    @property
    def pictures(self) -> int:
        """How many pictures the run draws."""
        return len(self.prompts) * self.settings.n_iter if self.place is None else 1

    @property
    def wants_grid(self) -> bool:
        """Whether the run ends with a grid."""
        grid = not self.settings.skip_grid and self.place is None
        return grid and self.pictures <= LARGEST_GRID

    def model_notice(self) -> str | None:
        """Say so if the picture to draw again was made by another model."""
        recorded = self.recorded
        if recorded is None or recorded.model_hash is None:
            return None
        own = self.choice.fingerprint.short
        if recorded.model_hash == own:
            return None
        return (
            f"the picture was made by model {recorded.model} ({recorded.model_hash}), this is "
            f"{self.choice.name} ({own}): it will not be the same; give its checkpoint by --ckpt"
        )


def prepare(schema: type[GenerationSettings], given: Mapping[str, Any]) -> Job:
    """Work out a run from what a command line gives.

    Args:
        schema: The program's settings class.
        given: Settings given explicitly, by field name.

    Raises:
        UserError: settings that contradict each other or the model, or files that are not there.
    """
    values, place, recorded, notices = dict(given), None, None, []
    if given.get("from_image") is not None:
        recorded = read_picture(given["from_image"], schema, given)
        values, place = recorded.rerun(given)
        values = _as_recorded(recorded, values, given)
        notices += recorded.notices
    if given.get("laion400m"):
        values.setdefault("outdir", LAION_OUTDIR)
    if {"prompt", "from_file"} <= given.keys():
        notices.append(f"--prompt is not used: the prompts come from {given['from_file']}")
    settings = schema(**values).with_seed()
    settings.validate()
    choice = choose_model(settings)
    settings = settings.suited(choice.kind, values.keys())
    prompts = read_prompts(settings)
    if place is None:
        check_length(settings, len(prompts))
    image = None if settings.takes_folder else read_init_image(settings, None, None)
    settings = resolve(settings, choice)
    if image is not None:
        image = fit_init_image(image, settings, choice)
    own_device = recorded is not None and "device" not in given
    job = Job(settings, choice, prompts, image, place, recorded, own_device, notices)
    if job.pictures > LARGEST_GRID and not settings.skip_grid:
        notices.append(f"no grid is made of {job.pictures} pictures; {LARGEST_GRID} are the most")
    return job


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
        if recorded.model == there.parent.name and there.is_file() and "config" not in given:
            added["ckpt"] = usual
    return {**added, **values}
