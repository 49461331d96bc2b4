"""One run: its batches drawn in order.

    (per batch) text encoding -> sampler steps -> decoding -> what ``PostProcessor`` makes of it

Shape legend: B pictures, C h w latent, H W pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from ldm.images.io import check_finite, to_tensor
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.batches import Batch
from ldm.pipelines.execution import Execution, is_finite, is_not_black, memory_for
from ldm.pipelines.infotext import Source
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.initial_latents import ImageLatents, InitialLatents
from ldm.pipelines.inpainting import FillStart, InpaintStart, MaskedStart
from ldm.pipelines.models import ModelChoice
from ldm.pipelines.postprocess import PostProcessor, Watermark
from ldm.pipelines.progress import (
    Notice,
    Observer,
    Picture,
    Progress,
    notices_on_length,
    notices_on_run,
)
from ldm.rng import seed_everything
from ldm.safety.checker import SafetyChecker
from ldm.settings.generation import GenerationSettings
from ldm.settings.model_kind import ModelKind
from ldm.settings.prompt_weights import encode_mixtures
from ldm.settings.samplers import SAMPLERS
from ldm.types import Conditioning, EpsModel

MASKED_STARTS = {
    ModelKind.TEXT: MaskedStart,
    ModelKind.INPAINT: InpaintStart,
    ModelKind.FILL: FillStart,
}


@dataclass(frozen=True)
class Order:
    """What a run draws.

    Attributes:
        settings: Complete and checked.
        batches: In the order that they are drawn in.
        image: What image-to-image starts from, fitted to the model.
        observer: Told of notices and progress.
    """

    settings: GenerationSettings
    batches: list[Batch]
    image: InitImage | None
    observer: Observer

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that is drawn, in pixels."""
        if self.image is None:
            return self.settings.H, self.settings.W
        return self.image.pixels.height, self.image.pixels.width

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width of the pictures that are handed out: without padding."""
        return self.size if self.image is None else self.image.size[::-1]

    @property
    def rows(self) -> int:
        """The largest number of pictures drawn at a time."""
        return max((len(batch.prompts) for batch in self.batches if batch.kept), default=1)


class Run:
    """One call of ``Pipeline.generate``.

    Args:
        model: What draws; where it is, is the execution's affair.
        choice: Which model it is.
        order: What to draw.
        execution: How its parts are computed.
        checker: Blacks out what it flags.
    """

    def __init__(
        self,
        model: LatentDiffusion,
        choice: ModelChoice,
        order: Order,
        execution: Execution,
        checker: SafetyChecker,
    ) -> None:
        self.model, self.order, self.execution = model, order, execution
        self.settings, self.observer = order.settings, order.observer
        self.own_size, self.kind = choice.size, choice.kind
        self.start = self._make_start(order.image)
        self.sampler = self._make_sampler(model)
        self.steps = self.start.steps(self.sampler)
        drawn = [batch for batch in order.batches if batch.kept]
        self.steps_total = self.steps * sum(len(batch.prompts) for batch in drawn)
        self.pictures_total = sum(len(batch.kept) for batch in drawn)
        self.steps_done = self.pictures_done = 0
        source = Source(
            model=choice.name,
            fingerprint=choice.fingerprint,
            device=execution.device.type,
            size=order.shown_size,
            init_image=order.image,
        )
        marker = Watermark(self.settings.format)
        self.post_processor = PostProcessor(self.settings, source, checker, marker, self.observer)

    def _make_start(self, image: InitImage | None) -> InitialLatents:
        settings = self.settings
        if image is None:
            return InitialLatents(settings, self.order.size, self.execution.device)
        for notice in (image.notice, image.mask and image.mask.notice):
            if notice:
                self.observer(Notice(notice))
        if image.mask is not None:
            return MASKED_STARTS[self.kind](settings, image, self.model)
        return ImageLatents(settings, to_tensor(image.pixels), self.model)

    def _make_sampler(self, model: EpsModel) -> Sampler:
        settings = self.settings
        sampler = make_sampler(settings.sampler, model, spacing=settings.spacing)
        eta = settings.ddim_eta if SAMPLERS[settings.sampler].eta == "used" else 0.0
        sampler.make_schedule(settings.ddim_steps, ddim_eta=eta, verbose=False)
        return sampler

    def pictures(self) -> Iterator[Picture]:
        """Draw, yielding each batch's pictures as it is done.

        Raises:
            UserError: a lack of memory, or numbers that came out as NaN.
        """
        self._give_notices()
        self.post_processor.prepare()
        self._progress(0)
        seed_everything(self.settings.seed)
        with self._enough_memory(1):
            self.execution.compute("encode", self.start.open, lambda _: self.start.is_finite())
        for batch in self.order.batches:
            if not batch.kept:
                self._draw_only(batch)
                continue
            with self._enough_memory(len(batch.prompts)):
                decoded = self._draw(batch)
            # What a caller draws between two pictures must not move the next batch.
            with torch.random.fork_rng(self._cuda_devices):
                yield from self.post_processor.pictures(batch, decoded)

    @property
    def _cuda_devices(self) -> list[torch.device]:
        device = self.execution.device
        return [device] if device.type == "cuda" else []

    def _give_notices(self) -> None:
        """Say what the user should know before it begins."""
        batches = [batch for batch in self.order.batches if batch.kept]
        prompts = list(dict.fromkeys(text for batch in batches for text in batch.prompts))
        sizes = {"size": self.start.size, "own_size": self.own_size}
        for notice in notices_on_run(self.settings, prompts, steps=self.steps, **sizes):
            self.observer(notice)
        texts = [self.settings.negative_prompt, *prompts]
        encoded = [text for prompt in texts for text, _ in self.settings.mixture(prompt)]
        tokenizer = getattr(self.model.cond_stage_model, "tokenizer", None)
        for notice in notices_on_length(tokenizer, encoded):
            self.observer(notice)

    def _enough_memory(self, rows: int) -> contextlib.AbstractContextManager:
        height, width = self.start.size
        what = f"pictures of {width}x{height}, {rows} at a time,"
        fewer = (
            "give a smaller --n_samples, or smaller pictures" if rows > 1 else "draw smaller ones"
        )
        return memory_for(what, self.execution.device, fewer)

    @cached_property
    def _silent_sampler(self) -> Sampler:
        return self._make_sampler(_Silenced(self.model))

    def _draw_only(self, batch: Batch) -> None:
        """Take from the stream of random numbers what drawing ``batch`` takes."""
        if self.start.per_image:
            return
        noise = self.start.noise_for(batch.places)
        for _ in self.start.walk(self._silent_sampler, noise, len(batch.prompts), None)[1]:
            pass

    @torch.no_grad()
    def _draw(self, batch: Batch) -> Tensor:
        """Draw one batch: (B, 3, H, W), about [-1, 1]."""
        x = self.execution.compute("walk", partial(self._walk, batch), is_finite)
        check_finite(x, "the latent of picture")
        decode = partial(self.model.decode_first_stage, x)
        decoded = self.execution.compute("decode", decode, is_not_black)
        self.steps_done += len(batch.prompts) * self.steps
        self.pictures_done += len(batch.kept)
        self._progress(0)
        return decoded

    def _walk(self, batch: Batch) -> Tensor:
        """Encode the prompts and take the steps: the latents (B, C, h, w) of a batch.

        The steps are taken in one go rather than yielded: a suspended generator would leave
        autocast switched on for its caller.
        """
        rows = len(batch.prompts)
        noise = self.start.noise_for(batch.places)
        x, states = self.start.walk(self.sampler, noise, rows, **self._guidance(batch))
        for taken, state in enumerate(states, start=1):
            x = state.x
            self._progress(rows * taken)
        return x

    def _guidance(self, batch: Batch) -> dict[str, Any]:
        """Encode the prompts, and what guidance steers away from."""
        if self.kind is ModelKind.FILL:
            return {"cond": None}
        rows, scale = len(batch.prompts), self.settings.scale
        uncond = None
        if scale != 1.0:
            uncond = self._encode(rows * [self.settings.negative_prompt])
        return {
            "cond": self._encode(batch.prompts),
            "unconditional_guidance_scale": scale,
            "unconditional_conditioning": uncond,
        }

    def _encode(self, prompts: Sequence[str]) -> Conditioning:
        mixtures = [self.settings.mixture(prompt) for prompt in prompts]
        return encode_mixtures(mixtures, self.model.get_learned_conditioning)

    def _progress(self, steps: int) -> None:
        """Tell how far the run is: ``steps`` into the batch that is being drawn."""
        done = self.steps_done + steps
        self.observer(Progress(done, self.steps_total, self.pictures_done, self.pictures_total))


class _Silenced:
    """Stands in for the model where only the sampler's random draws are wanted."""

    def __init__(self, model: EpsModel) -> None:
        self.num_timesteps = model.num_timesteps
        self.alphas_cumprod = model.alphas_cumprod
        self.parameterization = model.parameterization
        self.device = model.device
        self.q_sample = model.q_sample  # noises what a mask keeps

    def apply_model(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:  # noqa: ARG002
        """Predict nothing at once: (B, C, h, w) -> zeros (B, C, h, w)."""
        return torch.zeros_like(x)
