"""What a user can choose about a model's samples. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ldm.errors import UserError
from ldm.settings.generation import LONGEST_RUN, MAX_SEED
from ldm.settings.samplers import SAMPLERS, SPACINGS, k_samplers

PRECISIONS = ("full", "autocast")
STEPS, ETA = 50, 1.0
"""The reference's, where nothing is asked for."""


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """How samples are drawn. Picture k depends on these and on k, but on no batch size.

    Attributes:
        n_samples: How many, those of a run that is continued included.
        batch_size: How many at a time; the last batch may be shorter.
        vanilla_sample: Ancestral sampling over all training steps, in place of ``sampler``.
        custom_steps: Sampling steps; None is 50.
        eta: Noise that a DDIM step adds, 0 to 1; None is 1.
        sampler: Its name.
        spacing: How steps are spread over the model's times.
        class_label: Classes, taken in turn: picture k is of class k modulo their number.
        prompt: The text of every picture, for text models.
        scale: Classifier-free guidance; 1 is none.
        classifier_scale: Guidance by a classifier, where one is given.
        seed: Picture k has the seed ``seed + k``.
        precision: ``full`` or ``autocast``.
    """

    n_samples: int = 50000
    batch_size: int = 10
    vanilla_sample: bool = False
    custom_steps: int | None = None
    eta: float | None = None
    sampler: str = "ddim"
    spacing: str = "uniform"
    class_label: tuple[int, ...] = ()
    prompt: str | None = None
    scale: float = 1.0
    classifier_scale: float = 1.0
    seed: int = 42
    precision: str = "full"

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
        _whole("--n_samples", self.n_samples, 1, LONGEST_RUN)
        _whole("--batch_size", self.batch_size, 1, LONGEST_RUN)
        _whole("--custom_steps", self.steps, 1, LONGEST_RUN)
        _whole("--seed", self.seed, 0, MAX_SEED)
        for flag, value, choices in (
            ("--sampler", self.sampler, SAMPLERS),
            ("--spacing", self.spacing, SPACINGS),
            ("--precision", self.precision, PRECISIONS),
        ):
            if value not in choices:
                raise UserError(f"{flag} {value} was given; expected one of {', '.join(choices)}")
        for flag, value in (("--scale", self.scale), ("--classifier_scale", self.classifier_scale)):
            if not math.isfinite(value):
                raise UserError(f"{flag} {value} was given; expected a finite number")
        if not 0.0 <= self.ddim_eta <= 1.0:
            raise UserError(f"--eta {self.eta} was given; expected a number from 0 to 1")
        sampler = SAMPLERS[self.sampler]
        if not SPACINGS[self.spacing].times and not sampler.karras:
            raise UserError(
                f"--spacing {self.spacing} was given with --sampler {self.sampler}; expected one "
                f"of {', '.join(k_samplers())}; take one of them or another --spacing"
            )
        if sampler.eta == "must be 0" and self.ddim_eta != 0.0:
            raise UserError(f"--eta {self.eta} was given; {self.sampler} needs 0; leave --eta out")

    def notices(self) -> Iterator[str]:
        """Yield what is given and has no effect."""
        if self.vanilla_sample and (self.custom_steps, self.eta) != (None, None):
            yield "--vanilla_sample takes every training step: --custom_steps and --eta do nothing"
        elif SAMPLERS[self.sampler].eta == "ignored" and self.eta is not None:
            yield f"--eta does nothing: {self.sampler} has no use for it"
        if self.vanilla_sample and self.sampler != "ddim":
            yield f"--vanilla_sample takes ancestral steps: --sampler {self.sampler} does nothing"


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


def _whole(flag: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise UserError(f"{flag} {value} was given; expected a whole number from {low} to {high}")
