"""A DDIM sampler that a fork wrote for itself, on our tables, and calls the hub as its own does."""

from __future__ import annotations

import torch

from ldm.modules.diffusionmodules.util import (
    extract_into_tensor,
    make_ddim_sampling_parameters,
    make_ddim_timesteps,
    noise_like,
)


class SteeredDDIM:
    """Two predictions a step, one after the other: hints of both sides may differ in kind."""

    def __init__(self, model, schedule="linear", **kwargs):
        self.model, self.schedule = model, schedule
        self.ddpm_num_timesteps = model.num_timesteps

    def register_buffer(self, name, attr):
        setattr(self, name, attr.to(self.model.device) if torch.is_tensor(attr) else attr)

    def make_schedule(self, count, eta=0.0):
        self.ddim_timesteps = make_ddim_timesteps("uniform", count, self.ddpm_num_timesteps, False)
        products = self.model.alphas_cumprod
        assert products.shape[0] == self.ddpm_num_timesteps
        sigmas, alphas, before = make_ddim_sampling_parameters(
            alphacums=products.cpu(), ddim_timesteps=self.ddim_timesteps, eta=eta, verbose=False
        )
        self.register_buffer("sigmas", sigmas)
        self.register_buffer("alphas", alphas)
        self.register_buffer("alphas_before", before)
        self.register_buffer("rest", torch.sqrt(1.0 - alphas))

    @torch.no_grad()
    def sample(
        self,
        S,  # noqa: N803 - the reference's name
        batch_size,
        shape,
        conditioning=None,
        eta=0.0,
        verbose=True,
        x_T=None,  # noqa: N803 - the reference's name
        unconditional_guidance_scale=1.0,
        unconditional_conditioning=None,
        **kwargs,
    ):
        self.make_schedule(S, eta)
        device = self.model.betas.device
        x = torch.randn((batch_size, *shape), device=device) if x_T is None else x_T
        states = {"x_inter": [x], "pred_x0": [x]}
        for index in reversed(range(len(self.ddim_timesteps))):
            t = torch.full((batch_size,), int(self.ddim_timesteps[index]), device=device).long()
            eps = self.model.apply_model(x, t, conditioning)
            if unconditional_conditioning is not None and unconditional_guidance_scale != 1.0:
                bare = self.model.apply_model(x, t, unconditional_conditioning)
                eps = bare + unconditional_guidance_scale * (eps - bare)
            x, x0 = self.step(x, eps, index)
            states["x_inter"].append(x)
            states["pred_x0"].append(x0)
        return x, states

    def step(self, x, eps, index):
        full = (x.shape[0], 1, 1, 1)
        a = torch.full(full, float(self.alphas[index]))
        before = torch.full(full, float(self.alphas_before[index]))
        sigma = torch.full(full, float(self.sigmas[index]))
        rest = torch.full(full, float(self.rest[index]))
        x0 = (x - rest * eps) / a.sqrt()
        towards = (1.0 - before - sigma**2).sqrt() * eps
        return before.sqrt() * x0 + towards + sigma * noise_like(x.shape, x.device, False), x0

    @torch.no_grad()
    def stochastic_encode(self, x0, t, noise=None):
        noise = torch.randn_like(x0) if noise is None else noise
        kept = extract_into_tensor(torch.sqrt(self.alphas), t, x0.shape)
        return kept * x0 + extract_into_tensor(self.rest, t, x0.shape) * noise
