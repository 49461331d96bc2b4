"""Draw a model's samples, batch after batch.

Shapes: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.images.io import to_uint8
from ldm.models.diffusion.ancestral import AncestralSampler
from ldm.models.diffusion.classifier import NoisyLatentImageClassifier
from ldm.models.diffusion.sampler import Sampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.events import Observer, Progress
from ldm.pipelines.execution import half_of
from ldm.pipelines.memory import memory_for
from ldm.pipelines.samples.conditions import conditions_for
from ldm.pipelines.samples.settings import SampleSettings
from ldm.process.guidance import make_guider
from ldm.rng import PerImageNoise
from ldm.types import Conditioning, Guider


class SampleRun:
    """Samples of one model.

    Picture k comes from a generator of its own, seeded with ``settings.seed + k``: it is the same
    in every batch, on every device, in one run or in several.

    Args:
        model: A hub in evaluation mode: unconditional, of classes, or of texts.
        settings: How to draw, checked.
        observer: Told of progress.
        classifier: Leads to ``settings.class_label`` by its gradient.

    Raises:
        UserError: The model and the settings do not go together.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: SampleSettings,
        observer: Observer,
        classifier: NoisyLatentImageClassifier | None = None,
    ) -> None:
        self.model, self.settings, self.observer = model, settings, observer
        self.classifier = classifier
        self.conditions = conditions_for(model, settings, classifier=classifier is not None)

    @cached_property
    def sampler(self) -> Sampler:
        """The sampler, its steps laid out."""
        settings = self.settings
        if settings.vanilla_sample:
            sampler = AncestralSampler(self.model)
            sampler.make_schedule(self.model.num_timesteps, verbose=False)
        else:
            sampler = make_sampler(settings.sampler, self.model, spacing=settings.spacing)
            sampler.make_schedule(settings.steps, ddim_eta=settings.ddim_eta, verbose=False)
        return sampler

    @property
    def shape(self) -> tuple[int, int, int]:
        """What is diffused: (C, h, w).

        Raises:
            UserError: A size that the UNet cannot halve at each of its levels.
        """
        size = self.model.image_size
        height, width = (size, size) if isinstance(size, int) else size
        halvings = len(self.model.model.diffusion_model.channel_mult) - 1
        multiple = 2**halvings
        if height % multiple or width % multiple:
            raise UserError(
                f"model.params.image_size is {size}; this UNet halves its sides {halvings} times:"
                f" expected multiples of {multiple}; correct it"
            )
        return self.model.channels, height, width

    def pictures(self, first: int = 0) -> Iterator[tuple[int, np.ndarray]]:
        """Yield pictures ``first`` ... ``n_samples - 1``: the number, and uint8 (H, W, 3).

        Raises:
            UserError: A lack of memory, or numbers that came out as NaN.
        """
        wanted = range(first, self.settings.n_samples)
        total = self.sampler.steps * len(wanted)
        self.observer(Progress(0, total, 0, len(wanted)))
        with self.model.ema_scope():
            for begin in range(0, len(wanted), self.settings.batch_size):
                numbers = wanted[begin : begin + self.settings.batch_size]
                with memory_for(
                    f"{len(numbers)} pictures at a time",
                    self.model.device,
                    "give a smaller --batch_size",
                ):
                    decoded = self._draw(numbers, begin, len(wanted))
                yield from zip(numbers, to_uint8(decoded), strict=True)

    @torch.no_grad()
    def _draw(self, numbers: range, done: int, total: int) -> Tensor:
        """Return decoded pictures (B, 3, H, W)."""
        noise = PerImageNoise([self.settings.seed + number for number in numbers])
        x = noise.randn((len(numbers), *self.shape), self.model.device)
        steps, rows = self.sampler.steps, len(numbers)
        with self._precision():
            cond, uncond = self.conditions.rows(numbers)
            options = {"guider": self._guider(numbers, uncond), "noise": noise}
            states = self.sampler.walk(x, cond, unconditional_conditioning=uncond, **options)
            with closing(states):
                for state in states:
                    x = state.x
                    finished = done + rows if state.i == steps - 1 else done
                    now = done * steps + (state.i + 1) * rows
                    self.observer(Progress(now, total * steps, finished, total))
            decode = getattr(self.model, "decode_first_stage", None)
            return x if decode is None else decode(x)

    def _guider(self, numbers: range, uncond: Conditioning) -> Guider:
        own = make_guider(self.settings.scale, uncond)
        if self.classifier is None:
            return own
        labels = torch.tensor([self.settings.label(number) for number in numbers])
        labels = labels.to(self.model.device)
        return self.classifier.guidance(labels, self.settings.classifier_scale, own)

    def _precision(self):
        """Return the context that the model computes in."""
        half = half_of(self.model.device) if self.settings.precision == "autocast" else None
        if half is None:
            return nullcontext()
        return torch.autocast(self.model.device.type, dtype=half)
