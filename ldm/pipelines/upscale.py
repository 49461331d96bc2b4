"""Super-resolution by a model that sees the small picture beside its latents, as bsr_sr does.

    small picture -> padded by reflection -> (sampler, the picture on the latent's channels)
                  -> decoded -> padding cropped off

Shapes: h w sides of the small picture and of the latent, which are the same; f h, f w those of the
result, f the first stage's factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.images.io import check_finite, to_tensor, to_uint8
from ldm.images.padding import reflected, round_up
from ldm.models.diffusion.sampler import Sampler
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.pipelines.cancelling import Cancel, interruptible
from ldm.pipelines.phases import memory_for, way_out
from ldm.pipelines.progress import Observer, Progress, log_events
from ldm.rng import PerImageNoise
from ldm.settings.upscale import UpscaleSettings
from ldm.types import Conditioning
from ldm.wrapping import with_attribute

COLOURS = 3


class Upscaler:
    """Makes pictures larger.

    Args:
        model: A diffusion model conditioned on pictures by ``concat``, in evaluation mode.
        settings: How to enlarge them.
        observer: Called with progress.
        cancel: Ends it early where another thread asks for that.

    Raises:
        UserError: A model of another kind, or settings out of range.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: UpscaleSettings,
        observer: Observer = log_events,
        cancel: Cancel | None = None,
    ) -> None:
        unet = model.model.diffusion_model
        concat = model.model.conditioning_key == "concat"
        if not concat or unet.in_channels != model.channels + COLOURS:
            raise UserError(
                f"the model is conditioned by {model.model.conditioning_key!r} and its UNet takes "
                f"{unet.in_channels} channels; expected 'concat' and {model.channels + COLOURS}, "
                "for a small picture beside the latent; give a super-resolution model"
            )
        self.model, self.settings, self.observer = model, settings, observer
        self.cancel = cancel or Cancel()
        self.multiple = 2 ** (len(unet.channel_mult) - 1)
        self.factor = 2 ** (len(model.first_stage_model.encoder.down) - 1)
        settings.validate(self.multiple)

    def pictures(self, image: Image.Image) -> Iterator[np.ndarray]:
        """Yield the results for a picture, each uint8 (f h, f w, 3).

        Args:
            image: RGB, of any size (w, h).

        Raises:
            UserError: Memory ran out, or values came out as NaN.
            Cancelled: It was cancelled; results that were yielded before are whole.
        """
        self.cancel.check()
        cond = self.condition(image)
        sampler = make_sampler("ddim", self.model)
        sampler.make_schedule(self.settings.steps, ddim_eta=self.settings.eta, verbose=False)
        height, width = image.height * self.factor, image.width * self.factor
        with self.model.ema_scope(), self._patches(), interruptible(self.model, self.cancel):
            for number in range(self.settings.n_samples):
                what = f"pictures of {width}x{height} pixels"
                with memory_for(what, self.model.device, "give a smaller picture or --tile"):
                    decoded = self._draw(sampler, cond, number)
                check_finite(decoded, advice=lambda: way_out(self.model, None))
                yield to_uint8(decoded[..., :height, :width])[0]

    def condition(self, image: Image.Image) -> Tensor:
        """Return a picture as the model takes it: (1, 3, h, w) in [-1, 1], padded."""
        sides = (round_up(side, self.multiple) for side in (image.height, image.width))
        padded = reflected(np.asarray(image.convert("RGB")), *sides)
        pixels = to_tensor(Image.fromarray(padded)).to(self.model.device)
        with torch.no_grad():
            return self.model.get_learned_conditioning(pixels)

    @torch.no_grad()
    def _draw(self, sampler: Sampler, cond: Conditioning, number: int) -> Tensor:
        """Return a result (1, 3, H, W), padding included."""
        noise = PerImageNoise([self.settings.seed + number])
        x = noise.randn((1, self.model.channels, *cond.shape[-2:]), self.model.device)
        steps, total = sampler.steps, self.settings.n_samples
        with closing(sampler.walk(x, cond, noise=noise)) as states:
            for state in states:
                x = state.x
                self.cancel.check()
                finished = number + (state.i == steps - 1)
                done = number * steps + state.i + 1
                self.observer(Progress(done, total * steps, finished, total))
        return self.model.decode_first_stage(x)

    def _patches(self):
        """Return a context in which the model works in patches, if ``tile`` is set."""
        tile = self.settings.patch
        if tile == 0:
            return nullcontext()
        cut = {"ks": (tile, tile), "stride": (tile // 2, tile // 2), "vqf": self.factor}
        return with_attribute(
            self.model, "split_input_params", {**cut, "patch_distributed_vq": True}
        )
