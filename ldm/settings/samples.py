"""What a user can choose about a model's samples. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ldm.errors import UserError
from ldm.paths import at_home, real_path
from ldm.settings.generation import LONGEST_RUN, MAX_SEED, PRECISIONS, GenerationSettings
from ldm.settings.language import glossary_option, prompt_lang_option, translator_option
from ldm.settings.option import Settings, changed, device_option, option, overrides_option
from ldm.settings.samplers import SAMPLERS, SPACINGS, check_walk

STEPS, ETA = 50, 1.0
"""The reference's, where nothing is asked for."""


def read_labels(texts: Sequence[str]) -> tuple[int, ...]:
    """Read classes: numbers and ranges, each text one or several with commas between.

    Raises:
        UserError: Something else is there.

    Example:
        >>> read_labels(["207", "3-5,1"])
        (207, 3, 4, 5, 1)
    """
    labels: list[int] = []
    for part in (part for text in texts for part in text.split(",")):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdecimal() and len(end) < 8 for end in ends):
            raise UserError(
                f"--class_label {part!r} was given; expected numbers or ranges, as 207 or 0-999"
            )
        start, stop = map(int, ends)
        if start > stop:
            raise UserError(f"--class_label {part} was given; expected the smaller number first")
        labels += range(start, stop + 1)
    return tuple(labels)


@dataclass(frozen=True, kw_only=True)
class SampleSettings(Settings):
    """How samples are drawn. Picture k depends on these and on k, but on no batch size.

    Example:
        >>> SampleSettings(n_samples=4).steps
        50
    """

    program: ClassVar[str] = "sample_diffusion"

    n_samples: int = option(
        50000,
        "how many samples, those of a run that is continued included",
        synonyms=("-n",),
        minimum=1,
        maximum=LONGEST_RUN,
    )
    batch_size: int = option(
        10,
        "how many samples at a time; the last batch may be shorter",
        minimum=1,
        maximum=LONGEST_RUN,
    )
    vanilla_sample: bool = option(
        False,
        "ancestral (DDPM) sampling over all training steps, in place of --sampler",
        synonyms=("-v",),
    )
    custom_steps: int | None = option(
        None,
        "number of sampling steps",
        int,
        synonyms=("-c",),
        minimum=1,
        maximum=LONGEST_RUN,
        shown=f"{STEPS}",
    )
    eta: float | None = option(
        None,
        "noise added in each DDIM step: 0 is deterministic, 1 is DDPM's amount",
        float,
        synonyms=("-e",),
        minimum=0.0,
        maximum=1.0,
        shown=f"{ETA:g}",
    )
    sampler: str = option("ddim", "the sampler that takes the steps", choices=SAMPLERS)
    spacing: str = option(
        "uniform", "how the steps are spread over the model's times", choices=SPACINGS
    )
    class_label: tuple[int, ...] = option(
        (),
        "classes, as 207 or 0-999, taken in turn",
        int,
        several="+",
        minimum=0,
        metavar="CLASS",
        reader=read_labels,
    )
    prompt: str | None = option(None, "what to draw, for text models", str)
    prompt_lang: str = prompt_lang_option()
    glossary: str | None = glossary_option()
    translator: str | None = translator_option()
    scale: float = option(
        1.0,
        "classifier-free guidance away from the model's last class, or from the empty text; 1 "
        "turns it off",
    )
    classifier_scale: float = option(1.0, "how much --classifier guides")
    seed: int = option(
        42,
        "the seed of the first picture; picture k has the seed SEED + k",
        minimum=0,
        maximum=MAX_SEED,
    )
    precision: str = option(
        "full",
        "autocast is float16 on cuda, and float32 elsewhere; bfloat16 and float16 are these on any "
        "device; auto is float16 on cuda, and on a processor the one that it multiplies fastest; "
        "int8 is 8-bit integers, on processors only",
        choices=PRECISIONS,
    )

    @property
    def steps(self) -> int:
        """The sampling steps to ask for, unless all are taken."""
        return STEPS if self.custom_steps is None else self.custom_steps

    @property
    def ddim_eta(self) -> float:
        """The eta to ask the sampler for."""
        own = ETA if SAMPLERS[self.sampler].eta == "used" else 0.0
        return own if self.eta is None else self.eta

    def label(self, number: int) -> int:
        """Return the class of a picture; there must be classes."""
        return self.class_label[number % len(self.class_label)]

    def validate(self) -> None:
        """Check every value, and that they go together.

        Raises:
            UserError: One is out of range.
        """
        super().validate()
        check_walk(self.sampler, self.spacing, self.ddim_eta, "--eta")

    def notices(self) -> Iterator[str]:
        """Yield what is given and has no effect."""
        if self.vanilla_sample and (self.custom_steps, self.eta) != (None, None):
            yield "--vanilla_sample takes every training step: --custom_steps and --eta do nothing"
        elif SAMPLERS[self.sampler].eta == "ignored" and self.eta is not None:
            yield f"--eta does nothing: {self.sampler} has no use for it"
        if self.vanilla_sample and self.sampler != "ddim":
            yield f"--vanilla_sample takes ancestral steps: --sampler {self.sampler} does nothing"


def _folder_or_none(text: str) -> str | None:
    return None if text == "none" else str(at_home(text))  # the reference's word


@dataclass(frozen=True, kw_only=True)
class SampleProgramSettings(SampleSettings):
    """Settings of ``scripts/sample_diffusion.py``.

    Attributes:
        earlier: The folder of an earlier run, to go on in.
        overrides: ``a.b=c`` changes of the model's configuration.
    """

    groups: ClassVar[Mapping[str, str]] = {
        "model": "the model",
        "picture": "how to draw the samples",
        "output": "what is written",
    }

    resume: str | None = option(
        None,
        "the model: a checkpoint, a folder with model.ckpt and config.yaml, or a run of main.py",
        str,
        synonyms=("-r",),
        shown="none, it has to be given unless --continue is",
        group="model",
        metavar="PATH",
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
    logdir: str | None = option(
        None,
        "the folder in which one of the model's name gets the samples",
        str,
        synonyms=("-l",),
        shown="none, the model's own folder",
        group="output",
        metavar="FOLDER",
        reader=_folder_or_none,
    )
    use_ema: bool = option(
        False,
        "use the averaged (EMA) weights of a checkpoint that holds both; a model whose "
        "configuration has use_ema does so anyway",
        group="model",
    )
    classifier: str | None = option(
        None, "a classifier's run or checkpoint, to guide by", str, group="model", metavar="PATH"
    )
    device: str = device_option()
    # Samples are measured against other models': nothing is done to them unless it is asked for.
    watermark: str = changed(GenerationSettings, "watermark", default="off")
    earlier: str | None = option(
        None,
        "go on in the folder of an earlier run, up to --n_samples",
        str,
        flag="--continue",
        group="output",
        metavar="FOLDER",
    )
    overrides: tuple[str, ...] = overrides_option("model")

    def validate(self) -> None:
        """Check as the base does, and that there are a model and classes where they are needed."""
        super().validate()
        if self.resume is None:
            raise UserError("no model was given; expected one; add --resume FOLDER or CHECKPOINT")
        if self.classifier is not None and not self.class_label:
            raise UserError("--classifier was given; expected classes with it; add --class_label")

    def record(self) -> dict[str, Any]:
        """Return what a run writes down, under the flags' names, paths in full."""
        drawing = {each.name: getattr(self, each.name) for each in fields(SampleSettings)}
        return {
            "resume": _whole_path(self.resume),
            "config": _whole_path(self.config),
            "logdir": self.logdir,
            "overrides": list(self.overrides),
            "use_ema": self.use_ema,
            "device": self.device,
            "classifier": _whole_path(self.classifier),
            **drawing,
            "class_label": list(self.class_label),
            "watermark": self.watermark,
        }


def _whole_path(name: str | None) -> str | None:
    return name and str(real_path(name))
