"""The walk of prompt-to-prompt: a source and its edits, from one noise, in one batch.

What it starts from is another walk's business: noise, a noised picture, or an inverted one. That
walk draws one column of pictures; here it is given a sampler that draws a column for each prompt
(``ldm.pipelines.columns``), while a controller hands the source's attention on.

Shapes: P prompts, n pictures of each, B = P n rows; C h w latent, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.models.diffusion.sampler import Sampler
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.words import read_prompt
from ldm.pipelines.batches import Batch
from ldm.pipelines.columns import ColumnSampler, repeated
from ldm.pipelines.edits import make_edit, tokenizer_of
from ldm.pipelines.request import Request
from ldm.pipelines.walks import ImageWalk, TextWalk
from ldm.process.guidance import join_conditioning
from ldm.rng import NoiseSource
from ldm.settings.swap import SwapSettings
from ldm.types import SamplerState


class EditWalk(TextWalk):
    """Draws the source and its targets; in the batch and in what it yields the source is first.

    Args:
        request: What is wanted, with ``SwapSettings``.
        model: A latent diffusion model with a text encoder.
        device: Where the latents are.

    Raises:
        UserError: The settings name words that are not in their prompts.
    """

    def __init__(self, request: Request, model: LatentSpaceDiffusion, device: torch.device) -> None:
        super().__init__(request, model, device)
        self.prompts = self.settings.drawn_prompts
        self.inner = _inner_walk(request)(request, model, device)
        self.start_noise = self.inner.start_noise
        self.controller(self.settings.n_samples)  # raises before anything is computed

    def encode(self) -> None:
        """Compute and draw what the whole run shares."""
        self.inner.encode()

    def is_finite(self) -> bool:
        """Return whether every value that ``encode`` computed is finite."""
        return self.inner.is_finite()

    def steps(self, sampler: Sampler) -> int:
        """Return how many steps the sampler will take."""
        return self.inner.steps(sampler)

    def extra_steps(self, sampler: Sampler) -> int:
        """Return how many steps ``prepare`` takes."""
        return self.inner.extra_steps(sampler)

    def prepare(self, sampler: Sampler, tick: Callable[[int], None]) -> None:
        """Compute what takes steps of its own."""
        self.inner.prepare(sampler, tick)

    def findings(self, decoded: Tensor) -> Iterator[str]:
        """Say what is to be said of the source's pictures."""
        return self.inner.findings(decoded)

    def controller(self, rows: int) -> Controller | None:
        """Return what edits a batch of ``rows`` pictures of each prompt."""
        if not self.settings.edits:
            return None
        return make_edit(self.settings, tokenizer_of(self.model), rows)

    def condition(self, prompts: Sequence[str], negatives: Sequence[str] = ()) -> dict[str, Any]:
        """Encode all prompts, each as a run of it alone would: encodings are (B, L, D)."""
        rows = len(prompts)
        columns = [self.inner.condition([text] * rows, negatives) for text in self.prompts]
        scale = columns[0].pop("unconditional_guidance_scale")
        return {
            "unconditional_guidance_scale": scale,
            **{key: reduce(join_conditioning, [c[key] for c in columns]) for key in columns[0]},
        }

    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler on n = ``rows`` pictures of each prompt."""
        columns = ColumnSampler(sampler, len(self.prompts), rows)
        x, states = self.inner.begin(columns, noise, rows, **conditioning)
        # What is decoded if the walk has no steps is a batch too.
        return repeated(x, len(self.prompts)), states

    def decode(self, x: Tensor) -> Tensor:
        """Decode each column by itself, as a run of its prompt alone does: (B, 3, H, W)."""
        columns = x.chunk(len(self.prompts))
        return torch.cat([self.model.decode_first_stage(each) for each in columns])

    def drawn(self, batch: Batch) -> Batch:
        """Return the pictures that a decoded batch holds: targets first, then the source.

        Of a picture that is redrawn only the picture itself is wanted.
        """
        n, numbers = len(batch.prompts), range(len(self.prompts))
        sourced = self.settings.source is not None
        wanted = [*numbers[1:], 0] if sourced else [*numbers]
        if self.request.place is not None:
            wanted = [1 if sourced else 0]
        return replace(
            batch,
            places=batch.places * len(numbers),
            prompts=tuple(text for text in self.prompts for _ in range(n)),
            kept=tuple(number * n + row for number in wanted for row in batch.kept),
            numbers=tuple(number for number in numbers for _ in range(n)),
            recorded=tuple(each for each in self._recorded() for _ in range(n)),
        )

    def _recorded(self) -> Iterator[SwapSettings]:
        """Yield for each prompt the settings that draw its pictures."""
        settings = self.settings
        if settings.source is not None:
            yield settings.alone()
        for number, text in enumerate(settings.targets):
            if settings.edits:
                prompt = read_prompt(tokenizer_of(self.model), text)
                yield settings.of_target(number, prompt.has)
            else:
                yield settings.alone()


def _inner_walk(request: Request) -> type[TextWalk]:
    """Return the walk whose start is taken."""
    if request.image is None:
        return TextWalk
    if request.settings.takes_mask:
        from ldm.pipelines.inpainting import MaskedWalk

        return MaskedWalk
    if request.settings.invert != "none":
        from ldm.pipelines.inverting import InvertedWalk

        return InvertedWalk
    return ImageWalk
