"""The settings of the diffusers program. Imports neither torch nor diffusers.

Its flags are those of ``optimized_txt2img.py`` that the diffusers library has an equivalent for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ldm.errors import UserError
from ldm.settings.generation import DRAWING_GROUPS, Txt2ImgSettings
from ldm.settings.language import Originals
from ldm.settings.low_memory import ForkHabits, LowMemoryTxt2ImgSettings
from ldm.settings.option import Settings, changed, option
from ldm.settings.samplers import SAMPLERS, SPACINGS

OFFLOADS = ("none", "model", "sequential", "group")
# diffusers' scheduler class for each of our samplers.
SCHEDULERS = {name: entry.diffusers for name, entry in SAMPLERS.items() if entry.diffusers}
# Our name for each of diffusers' "timestep_spacing".
OUR_SPACINGS = {entry.diffusers: name for name, entry in SPACINGS.items() if entry.diffusers}


def _like(name: str, **changes: Any) -> Any:
    return changed(LowMemoryTxt2ImgSettings, name, **changes)


@dataclass(frozen=True, kw_only=True)
class DiffusersSettings(ForkHabits, Settings):
    """Settings of text-to-image by the diffusers library.

    Attributes:
        originals: What the prompts were translated from; no option, but the run's own note.
        on_language: What is to be said of the prompts' language, likewise.

    Example:
        >>> DiffusersSettings(model="models/sd-v1-5", seed=7).sampler
        'plms'
    """

    program: ClassVar[str] = "diffusers_txt2img"
    groups: ClassVar[Mapping[str, str]] = DRAWING_GROUPS
    seed_mode: ClassVar[str] = "per-image"
    wildcards: ClassVar[None] = None

    prompt: str = _like("prompt")
    negative_prompt: str = _like("negative_prompt")
    prompt_lang: str = _like("prompt_lang")
    glossary: str | None = _like("glossary")
    translator: str | None = _like("translator")
    originals: Originals = ()
    on_language: tuple[str, ...] = ()
    from_file: str | None = _like("from_file")
    outdir: str = _like("outdir")
    skip_grid: bool = _like(
        "skip_grid", help="write single pictures only, no grid of each prompt's pictures"
    )
    skip_save: bool = _like("skip_save")
    format: str = _like("format")
    watermark: str = _like("watermark")
    sampler: str = _like(
        "sampler", choices=tuple(SCHEDULERS), help="the sampler, named as in the other programs"
    )
    ddim_steps: int = _like("ddim_steps")
    scale: float = _like(
        "scale", minimum=1.0, help="guidance scale; 1 turns guidance off, as in diffusers"
    )
    n_iter: int = _like("n_iter")
    n_samples: int = _like("n_samples")
    H: int | None = _like("H")
    W: int | None = _like("W")
    seed: int | None = _like(
        "seed", help="the seed of the first picture; each further one has the next seed"
    )
    model: str | None = option(
        None,
        "a diffusers pipeline on this machine: the folder with model_index.json",
        str,
        shown="none: it must be given",
        group="model",
        metavar="FOLDER",
    )
    device: str = _like("device")
    precision: str = _like("precision")
    offload: str = option(
        "none",
        "what waits in main memory until its turn: nothing (none), each network (model), each "
        "layer (sequential), or each layer, fetched ahead of its turn (group)",
        choices=OFFLOADS,
        group="model",
    )

    def validate(self) -> None:
        """Check each value, and the values together.

        Raises:
            UserError: a value is not allowed, alone or with another.
        """
        super().validate()
        if self.model is None:
            raise UserError("no --model was given; expected a diffusers folder; add --model FOLDER")
        if self.precision == "int8":
            raise UserError(
                "--precision int8 was given, which is for this project's own networks; expected "
                "another; use optimizedSD/optimized_txt2img.py, or --precision auto"
            )
        if self.offload != "none" and self.device == "cpu":
            raise UserError(
                f"--offload {self.offload} was given with --device cpu, which has no memory of its "
                "own to save; expected a GPU; leave --offload out"
            )
        self.described("").validate()

    def mixture(self, prompt: str) -> list[tuple[str, float]]:
        """Return the whole prompt with weight 1: diffusers does not read weights in prompts."""
        return [(prompt, 1.0)]

    def described(self, prompt: str, seed: int = 0, spacing: str = "uniform") -> Txt2ImgSettings:
        """Return one picture's settings as those of the project's own text-to-image."""
        return Txt2ImgSettings(
            prompt=prompt,
            negative_prompt=self.negative_prompt,
            originals=self.originals,
            sampler=self.sampler,
            ddim_steps=self.ddim_steps,
            spacing=spacing,
            scale=self.scale,
            seed=seed,
            seed_mode=self.seed_mode,
            n_samples=self.n_samples,
            n_iter=self.n_iter,
            device=self.device,
            precision=self.precision,
            watermark=self.watermark,
        )
