"""Start from the noise that draws a given picture, so that it can be edited by its prompt.

Shapes: n pictures, C h w latent, H W pixels, L D tokens and their width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.images.io import to_tensor
from ldm.models.diffusion.inversion import Inversion, invert
from ldm.models.diffusion.null_text import NullText
from ldm.models.diffusion.sampler import Sampler
from ldm.modules.losses.reconstruction import psnr
from ldm.pipelines.walks import ImageWalk
from ldm.rng import NoiseSource
from ldm.types import SamplerState


class InvertedWalk(ImageWalk):
    """Starts from the inverted init image; all pictures of a prompt are the same.

    ``prepare`` inverts, once a run. At a strength below 1 only the last steps are inverted, and
    taken again.
    """

    inversion: Inversion

    def steps(self, sampler: Sampler) -> int:
        """Return how many steps are inverted: all at strength 1.

        Raises:
            UserError: ``strength`` leaves none.
        """
        settings = self.settings
        steps = sampler.steps if settings.strength == 1.0 else super().steps(sampler)
        if steps == 0:
            raise UserError(
                f"--invert {settings.invert} was given with --strength {settings.strength}, which "
                f"leaves none of {settings.ddim_steps} steps to invert; expected one or more; "
                "raise --strength"
            )
        return steps

    def extra_steps(self, sampler: Sampler) -> int:
        """Return how many steps ``prepare`` takes."""
        return self.steps(sampler) * (2 if self.settings.invert == "null-text" else 1)

    @torch.no_grad()
    def prepare(self, sampler: Sampler, tick: Callable[[int], None]) -> None:
        """Invert the init image under the source prompt.

        Args:
            sampler: With its schedule made.
            tick: Called with the number of steps taken.
        """
        settings, encode = self.settings, self.model.get_learned_conditioning
        steps, null_text = self.steps(sampler), None
        if settings.invert == "null-text":
            # The paper's rate falls to 0 in 100 steps; longer walks are to learn to their end.
            null_text = NullText(rate_steps=max(NullText.rate_steps, steps))
        latents = self._picture.mean()
        self.inversion = invert(
            sampler,
            latents,
            encode([settings.source]),
            method=settings.invert,
            scale=settings.scale,
            uncond=encode([settings.negative_prompt]),
            steps=steps,
            null_text=null_text,
            callback=lambda done, total: tick(done),  # noqa: ARG005
        )
        self._decoded = self.model.decode_first_stage(latents)  # (1, 3, H, W)

    def begin(
        self, sampler: Sampler, noise: NoiseSource, rows: int, **conditioning: Any
    ) -> tuple[Tensor, Iterator[SamplerState]]:
        """Start the sampler from the inverted picture."""
        x = self.inversion.x_T.expand(rows, -1, -1, -1)
        given = {"t_start": self.inversion.steps, "guider": self.inversion.guider()}
        return x, sampler.walk(x, noise=noise, **given, **conditioning)

    def findings(self, decoded: Tensor) -> Iterator[str]:
        """Say how well the source's column of pictures (n, 3, H, W) shows the init image."""
        wanted = to_tensor(self.request.image.pixels)
        found, best = (float(psnr(wanted, each[:1].cpu())) for each in (decoded, self._decoded))
        yield (
            f"Inverted by {self.settings.invert}: the source's picture has a PSNR of {found:.2f} "
            f"dB to the init image; the autoencoder alone has {best:.2f} dB."
        )
