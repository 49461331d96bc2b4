"""One training step of a latent diffusion model: this project's, and diffusers' example's.

Both sides hold the same weights and take the same batch: moments of latents (B, 8, h, w) and
encoded captions (B, 77, D).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sampling import diffusers_config, random_weights
from ldm.checkpoint.diffusers.keymaps import unet_to_diffusers
from ldm.config import build, load_config
from ldm.models.training_parts import pictures_from
from ldm.modules.ema import LitEma

LARGEST_NORM, RATE = 1.0, 1e-5


class Side(Protocol):
    """What is measured."""

    name: str

    def step(self, batch: Mapping[str, Any], dtype: torch.dtype) -> None:
        """Take one optimizer step."""

    def loss_at(
        self, z: Tensor, cond: Tensor, t: Tensor, noise: Tensor, dtype: torch.dtype
    ) -> float:
        """Return the loss at given steps and noise, to compare the sides."""

    def tensors(self) -> Iterator[Tensor]:
        """Yield all that stays between steps: weights, gradients, optimizer state, averages."""


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Compute in ``dtype`` where that is safe; float32 is left alone."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


class Ours:
    """``LatentDiffusion``'s own training step, optimizer and averages, as main.py calls them."""

    name = "ours"

    def __init__(self, model: nn.Module):
        self.model = model.train()
        model.learning_rate = RATE
        self.optimizer = model.configure_optimizers()

    def step(self, batch: Mapping[str, Any], dtype: torch.dtype) -> None:
        """Take one optimizer step."""
        with autocast(self.model.device, dtype):
            loss = self.model.training_step(batch, 0)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.trainable_parameters(), LARGEST_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.model.on_train_batch_end()

    @torch.no_grad()
    def loss_at(
        self, z: Tensor, cond: Tensor, t: Tensor, noise: Tensor, dtype: torch.dtype
    ) -> float:
        """Return the loss at given steps and noise."""
        with autocast(z.device, dtype):
            return self.model.p_losses(z, cond, t, noise)[0].item()

    def tensors(self) -> Iterator[Tensor]:
        """Yield all that stays between steps; the encoders of both are left out."""
        yield from self.model.model.parameters()
        yield from self.model.model_ema.buffers()
        yield from _state_of(self.optimizer)


class Diffusers:
    """The step of diffusers' ``train_text_to_image`` example, with its defaults and its EMA."""

    name = "diffusers"

    def __init__(self, unet: nn.Module, device: torch.device, scale_factor: float):
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        self.unet, self.device, self.scale_factor = unet.train(), device, scale_factor
        self.scheduler = DDPMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012
        )
        self.optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE, weight_decay=1e-2)
        self.ema = EMAModel(unet.parameters(), model_cls=type(unet), model_config=unet.config)
        self.ema.to(device)

    def step(self, batch: Mapping[str, Any], dtype: torch.dtype) -> None:
        """Take one optimizer step."""
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        drawn = DiagonalGaussianDistribution(batch["jpg_moments"]).sample()
        z = drawn * self.scale_factor
        noise = torch.randn_like(z)
        t = torch.randint(0, self.scheduler.config.num_train_timesteps, (len(z),), device=z.device)
        with autocast(self.device, dtype):
            loss = self._loss(z, batch["txt_embedding"], t, noise)
        loss.backward()
        nn.utils.clip_grad_norm_(self.unet.parameters(), LARGEST_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.ema.step(self.unet.parameters())

    def _loss(self, z: Tensor, cond: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        noisy = self.scheduler.add_noise(z, noise, t)
        predicted = self.unet(noisy, t, cond, return_dict=False)[0]
        return F.mse_loss(predicted.float(), noise.float(), reduction="mean")

    @torch.no_grad()
    def loss_at(
        self, z: Tensor, cond: Tensor, t: Tensor, noise: Tensor, dtype: torch.dtype
    ) -> float:
        """Return the loss at given steps and noise."""
        with autocast(z.device, dtype):
            return self._loss(z, cond, t, noise).item()

    def tensors(self) -> Iterator[Tensor]:
        """Yield all that stays between steps."""
        yield from self.unet.parameters()
        yield from self.ema.shadow_params
        yield from _state_of(self.optimizer)


def _state_of(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter.grad
            yield from (v for v in optimizer.state[parameter].values() if isinstance(v, Tensor))


def make_sides(config_path: str, overrides: list[str], device: str) -> tuple[Ours, Diffusers]:
    """Build both sides around one set of random weights."""
    from diffusers import UNet2DConditionModel
    from diffusers.utils import logging as diffusers_logging

    diffusers_logging.set_verbosity_error()
    config = load_config(config_path, overrides=overrides)
    params = dict(config.model.params.unet_config.params)
    model = build(config)
    unet = model.model.diffusion_model
    unet.load_state_dict(random_weights(unet))
    model.model_ema = LitEma(model.model, decay=model.ema_decay)  # of these weights
    with torch.device("meta"):
        theirs = UNet2DConditionModel(**diffusers_config(params))
    state = {name: value.clone() for name, value in unet.state_dict().items()}
    theirs.load_state_dict(unet_to_diffusers(state, params), assign=True, strict=True)
    place = torch.device(device)
    return (
        Ours(model.to(place)),
        Diffusers(theirs.requires_grad_(True).to(place), place, float(model.scale_factor)),
    )


def make_batches(
    model: nn.Module, size: int, count: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return a batch of latents and encoded captions, and one of pictures and captions."""
    generator = torch.Generator().manual_seed(1)
    pictures = torch.rand(count, size, size, 3, generator=generator) * 2 - 1
    fresh = {"jpg": pictures.to(model.device), "txt": ["a photo of a cat on a chair"] * count}
    with torch.no_grad():
        posterior = model.encode_first_stage(pictures_from(fresh, "jpg"))
        moments = torch.cat([posterior.mean, posterior.logvar], dim=1)
        embedding = model.get_learned_conditioning(fresh["txt"])
        empty = model.get_learned_conditioning([""] * count)
    stored = {"jpg_moments": moments, "txt_embedding": embedding, "txt_empty": empty}
    return stored, fresh
