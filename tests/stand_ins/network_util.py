"""In place of ``ldm.modules.diffusionmodules.util``: CompVis's functions, every argument needed."""

import numpy as np
import torch
from torch import nn

from ldm.util import instantiate_from_config


def make_beta_schedule(schedule, n_timestep, linear_start=1e-4, linear_end=2e-2, cosine_s=8e-3):
    return np.linspace(linear_start**0.5, linear_end**0.5, n_timestep) ** 2


def make_ddim_timesteps(ddim_discr_method, num_ddim_timesteps, num_ddpm_timesteps, verbose=True):
    return np.arange(0, num_ddpm_timesteps, num_ddpm_timesteps // num_ddim_timesteps) + 1


def make_ddim_sampling_parameters(alphacums, ddim_timesteps, eta, verbose=True):
    alphas = alphacums[ddim_timesteps]
    before = np.asarray([alphacums[0], *alphacums[ddim_timesteps[:-1]].tolist()])
    return eta * np.sqrt((1 - before) / (1 - alphas) * (1 - alphas / before)), alphas, before


def extract_into_tensor(a, t, x_shape):
    return a.gather(-1, t).reshape(len(t), *(1,) * (len(x_shape) - 1))


class Recompute(torch.autograd.Function):
    """Detaches every input, as the reference does: None cannot be one."""

    @staticmethod
    def forward(ctx, run, count, *given):
        ctx.run, ctx.inputs, ctx.params = run, given[:count], given[count:]
        with torch.no_grad():
            return run(*ctx.inputs)

    @staticmethod
    def backward(ctx, grad):
        inputs = [x.detach().requires_grad_(True) for x in ctx.inputs]
        with torch.enable_grad():
            out = ctx.run(*(x.view_as(x) for x in inputs))
        found = torch.autograd.grad(out, (*inputs, *ctx.params), grad, allow_unused=True)
        return None, None, *found


def checkpoint(func, inputs, params, flag):
    if not flag:
        return func(*inputs)
    return Recompute.apply(func, len(inputs), *inputs, *params)


def timestep_embedding(timesteps, dim, max_period=10000, repeat_only=False):
    half = dim // 2
    rates = max_period ** -(torch.arange(half) / half)
    return torch.cat([(timesteps[:, None] * rates).cos(), (timesteps[:, None] * rates).sin()], 1)


def zero_module(module):
    for parameter in module.parameters():
        parameter.detach().zero_()
    return module


def normalization(channels):
    return nn.GroupNorm(32, channels)


def conv_nd(dims, *args, **kwargs):
    return nn.Conv2d(*args, **kwargs)


def linear(*args, **kwargs):
    return nn.Linear(*args, **kwargs)


def avg_pool_nd(dims, *args, **kwargs):
    return nn.AvgPool2d(*args, **kwargs)


def noise_like(shape, device, repeat=False):
    return torch.randn(shape, device=device)


class HybridConditioner(nn.Module):
    def __init__(self, c_concat_config, c_crossattn_config):
        super().__init__()
        self.concat_conditioner = instantiate_from_config(c_concat_config)
        self.crossattn_conditioner = instantiate_from_config(c_crossattn_config)
