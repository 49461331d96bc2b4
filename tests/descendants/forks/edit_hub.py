"""A fork of instruct-pix2pix's kind: a hub of its own, a LightningModule, made of our parts.

It was copied from an older hub and changed, so it calls our modules and no class of ``ddpm``.
Shapes: B batch, C latent channels, H W pixels, h w latent sides.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial

import numpy as np
import pytorch_lightning as pl
import torch
from einops import rearrange
from torch import nn

from ldm.models.autoencoder import IdentityFirstStage, VQModelInterface
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.diffusionmodules.util import extract_into_tensor, make_beta_schedule, noise_like
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution
from ldm.modules.ema import LitEma
from ldm.util import count_params, default, exists, instantiate_from_config


class EditLDM(pl.LightningModule):
    """Latents of the edited picture are drawn beside those of the original: 8 channels go in."""

    def __init__(
        self,
        unet_config,
        first_stage_config,
        cond_stage_config,
        first_stage_key="edited",
        cond_stage_key="edit",
        timesteps=1000,
        linear_start=8.5e-4,
        linear_end=1.2e-2,
        scale_factor=0.18215,
        image_size=8,
        channels=4,
        use_ema=True,
        initial=None,
        **kwargs,
    ):
        super().__init__()
        self.first_stage_key, self.cond_stage_key = first_stage_key, cond_stage_key
        self.scale_factor, self.image_size, self.channels = scale_factor, image_size, channels
        self.model = Hybrid(unet_config)
        assert count_params(self.model) > 0
        self.use_ema = use_ema
        if use_ema:
            self.model_ema = LitEma(self.model)
        self._tables(make_beta_schedule("linear", timesteps, linear_start, linear_end))
        self.first_stage_model = instantiate_from_config(first_stage_config).eval()
        self.cond_stage_model = instantiate_from_config(cond_stage_config).eval()
        assert not isinstance(self.first_stage_model, VQModelInterface | IdentityFirstStage)
        for part in (self.first_stage_model, self.cond_stage_model):
            part.requires_grad_(False)
        if exists(initial):
            self._widen(initial)

    def _tables(self, betas):
        products = np.cumprod(1.0 - betas, axis=0)
        before = np.append(1.0, products[:-1])
        self.num_timesteps, self.parameterization = len(betas), "eps"
        to_torch = partial(torch.tensor, dtype=torch.float32)
        self.register_buffer("betas", to_torch(betas))
        self.register_buffer("alphas_cumprod", to_torch(products))
        self.register_buffer("alphas_cumprod_prev", to_torch(before))
        self.register_buffer("sqrt_alphas_cumprod", to_torch(np.sqrt(products)))
        self.register_buffer("sqrt_one_minus_alphas_cumprod", to_torch(np.sqrt(1.0 - products)))

    def _widen(self, weights):
        """Take a text-to-image model's weights; the new inputs begin at zero."""
        name = "model.diffusion_model.input_blocks.0.0.weight"
        wide = torch.zeros_like(self.state_dict()[name])
        wide[:, : weights[name].shape[1]] = weights[name]
        self.load_state_dict({**weights, name: wide}, strict=False)

    @contextmanager
    def ema_scope(self, context=None):
        if self.use_ema:
            self.model_ema.store(self.model.parameters())
            self.model_ema.copy_to(self.model)
        try:
            yield
        finally:
            if self.use_ema:
                self.model_ema.restore(self.model.parameters())

    def q_sample(self, x_start, t, noise=None):
        noise = default(noise, lambda: torch.randn_like(x_start))
        kept = extract_into_tensor(self.sqrt_alphas_cumprod, t, x_start.shape)
        return kept * x_start + noise * extract_into_tensor(
            self.sqrt_one_minus_alphas_cumprod, t, x_start.shape
        )

    def get_first_stage_encoding(self, posterior):
        assert isinstance(posterior, DiagonalGaussianDistribution)
        return self.scale_factor * posterior.sample()

    def encode_first_stage(self, x):
        return self.first_stage_model.encode(x)

    def decode_first_stage(self, z):
        return self.first_stage_model.decode(z / self.scale_factor)

    def get_learned_conditioning(self, c):
        return self.cond_stage_model.encode(c)

    @torch.no_grad()
    def get_input(self, batch, k, bs=None, uncond=0.05):
        x = rearrange(batch[k][:bs], "b h w c -> b c h w").float().to(self.device)
        original = batch[self.cond_stage_key]["c_concat"][:bs]
        original = rearrange(original, "b h w c -> b c h w").float().to(self.device)
        texts = batch[self.cond_stage_key]["c_crossattn"][:bs]
        z = self.get_first_stage_encoding(self.encode_first_stage(x))
        drawn = torch.rand(len(z), device=self.device)
        text, empty = self.get_learned_conditioning(texts), self.get_learned_conditioning([""])
        text = torch.where((drawn < 2 * uncond)[:, None, None], empty, text)
        keep = 1.0 - ((drawn >= uncond) & (drawn < 3 * uncond)).float()[:, None, None, None]
        maps = keep * self.encode_first_stage(original).mode()
        return z, {"c_crossattn": [text], "c_concat": [maps]}

    def apply_model(self, x_noisy, t, cond):
        return self.model(x_noisy, t, **cond)

    def shared_step(self, batch):
        return self(*self.get_input(batch, self.first_stage_key))

    def forward(self, x, c):
        t = torch.randint(0, self.num_timesteps, (x.shape[0],), device=self.device).long()
        noise = torch.randn_like(x)
        loss = (self.apply_model(self.q_sample(x, t, noise), t, c) - noise).pow(2).mean()
        return loss, {f"{'train' if self.training else 'val'}/loss": loss}

    def training_step(self, batch, batch_idx):
        loss, loss_dict = self.shared_step(batch)
        self.log_dict(loss_dict, on_step=True, batch_size=len(batch[self.first_stage_key]))
        return loss

    def on_train_batch_end(self, *args, **kwargs):
        if self.use_ema:
            self.model_ema(self.model)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.model.parameters(), lr=self.learning_rate)

    @torch.no_grad()
    def p_sample(self, x, c, t):
        """Take one ancestral step, from the tables of this hub."""
        a = extract_into_tensor(self.alphas_cumprod, t, x.shape)
        before = extract_into_tensor(self.alphas_cumprod_prev, t, x.shape)
        x0 = (x - (1.0 - a).sqrt() * self.apply_model(x, t, c)) / a.sqrt()
        beta = 1.0 - a / before
        mean = (before.sqrt() * beta * x0 + (a / before).sqrt() * (1.0 - before) * x) / (1.0 - a)
        noise = noise_like(x.shape, x.device, repeat=False)
        return mean + (beta * (1.0 - before) / (1.0 - a)).sqrt() * noise

    @torch.no_grad()
    def log_images(self, batch, N=4, ddim_steps=4, **kwargs):  # noqa: N803 - the reference's name
        z, c = self.get_input(batch, self.first_stage_key, bs=N, uncond=0.0)
        shape = (self.channels, self.image_size, self.image_size)
        with self.ema_scope("Plotting"):
            samples, _ = DDIMSampler(self).sample(ddim_steps, len(z), shape, c, verbose=False)
        return {
            "reconstruction": self.decode_first_stage(z),
            "original": self.decode_first_stage(c["c_concat"][0]),
            "samples": self.decode_first_stage(samples),
        }


class Hybrid(pl.LightningModule):
    """The network with maps beside its input and tokens in its attention."""

    def __init__(self, unet_config):
        super().__init__()
        self.diffusion_model: nn.Module = instantiate_from_config(unet_config)

    def forward(self, x, t, c_concat=None, c_crossattn=None):
        return self.diffusion_model(
            torch.cat([x, *c_concat], 1), t, context=torch.cat(c_crossattn, 1)
        )
