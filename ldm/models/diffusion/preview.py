"""Pictures to look at while a latent diffusion model trains, under the reference's names.

Shapes: n pictures, C channels, h w latent sides, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ldm.models.diffusion.batch_conditioning import conditioner_input, empty_of
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.types import Conditioning
from ldm.util import isimage, ismap, log_txt_as_img

_ROW_STEPS = 5


@torch.no_grad()
def preview_images(
    model: Any,
    batch: Mapping[str, Any],
    N: int,  # noqa: N803 - the logging interface
    *,
    sample: bool,
    ddim_steps: int,
    guidance_scale: float,
    plot_diffusion_rows: bool,
    plot_denoise_rows: bool,
    quantize_denoised: bool,
    inpaint: bool,
) -> dict[str, Tensor]:
    """Show a batch, its reconstruction, its conditioning and what the averaged weights draw of it.

    Args:
        model: A ``LatentDiffusion``.
        batch: As for training; precomputed latents are shown decoded.
        N: Pictures of each kind, at most.
        sample: Draw samples.
        ddim_steps: Sampling steps.
        guidance_scale: Guidance of the samples, where the conditioning has an empty form.
        plot_diffusion_rows: Also the pictures noised further and further.
        plot_denoise_rows: Also the estimates of the clean sample along the way.
        quantize_denoised: Also samples whose estimates are snapped to the codebook.
        inpaint: Also the middle of the pictures drawn anew, and their surroundings.

    Returns:
        ``inputs``, ``reconstruction``, ``conditioning``, ``samples`` and what was asked for
        (``diffusion_row``, ``denoise_row``, ``samples_x0_quantized``, ``samples_inpainting``,
        ``mask``, ``samples_outpainting``), each (n, 3, H, W) in [-1, 1].
    """
    batch = first_rows(batch, N, model.device)
    z = model.latents_of(batch)
    logs = {"reconstruction": model.decode_first_stage(z)}
    if model.first_stage_key in batch:
        logs = {"inputs": model.get_input(batch, model.first_stage_key), **logs}
    size = logs["reconstruction"].shape[-2:]
    logs |= _shown_conditioning(model, batch, size)
    if plot_diffusion_rows:
        logs["diffusion_row"] = _diffusion_rows(model, z)
    if not sample:
        return logs
    cond, uncond = _pair(model, batch)
    draw = partial(_draw, model, z, cond, uncond, ddim_steps, guidance_scale)
    with model.ema_scope():
        samples, kept = draw()
        logs["samples"] = model.decode_first_stage(samples)
        if plot_denoise_rows:
            logs["denoise_row"] = _rows(model, kept["pred_x0"][1:])
        if quantize_denoised:
            logs["samples_x0_quantized"] = model.decode_first_stage(draw(quantize_x0=True)[0])
        if inpaint:
            logs |= _painted(model, z, draw, size)
    return logs


def first_rows(batch: Mapping[str, Any], count: int, device: torch.device) -> dict[str, Any]:
    """Take the first rows of every entry of a batch to a device."""
    return {
        key: entry[:count].to(device) if isinstance(entry, Tensor) else entry[:count]
        for key, entry in batch.items()
        if hasattr(entry, "__getitem__")
    }


def _shown_conditioning(model: Any, batch: Mapping[str, Any], size: torch.Size) -> dict:
    """Draw the conditioning as far as it can be seen: texts, names of classes, pictures."""
    key = model.cond_stage_key
    entry = batch.get("human_label", batch.get(key))
    if model.model.conditioning_key is None or entry is None:
        return {}
    if not isinstance(entry, Tensor):
        return {"conditioning": log_txt_as_img((size[1], size[0]), [str(text) for text in entry])}
    if entry.ndim == 1:
        return {
            "conditioning": log_txt_as_img((size[1], size[0]), [f"{c}" for c in entry.tolist()])
        }
    if not entry.is_floating_point():
        return {}
    maps = conditioner_input(batch, key)
    if ismap(maps):
        colours = torch.rand(3, maps.shape[1], 1, 1, generator=torch.Generator().manual_seed(0))
        maps = torch.nn.functional.conv2d(maps, colours.to(maps)) * 2 - 1
    return {"conditioning": interpolate(maps, size=size)} if isimage(maps) else {}


def _pair(model: Any, batch: Mapping[str, Any]) -> tuple[Conditioning, Conditioning]:
    """Return a batch's conditioning and the empty one, or None where there is none."""
    if model.model.conditioning_key is None:
        return None, None
    cond = model.conditioning_of(batch)
    key = model.cond_stage_key
    if isinstance(cond, dict) or key not in batch:
        return cond, None
    empty = empty_of(conditioner_input(batch, key), key, model.cond_stage_model)
    # Without dropout the last class is a class like any other.
    if empty is None or (isinstance(empty, Mapping) and model.cond_dropout == 0):
        return cond, None
    return cond, model.get_learned_conditioning(empty)


def _draw(
    model: Any,
    z: Tensor,
    cond: Conditioning,
    uncond: Conditioning,
    steps: int,
    scale: float,
    **options: Any,
) -> tuple[Tensor, dict[str, list[Tensor]]]:
    return DDIMSampler(model, spacing="trailing").sample(
        steps,
        len(z),
        tuple(z.shape[1:]),
        cond,
        unconditional_guidance_scale=scale,
        unconditional_conditioning=uncond,
        verbose=False,
        log_every_t=max(1, steps // _ROW_STEPS),
        **options,
    )


def _diffusion_rows(model: Any, z: Tensor) -> Tensor:
    """Decode latents noised to five steps, evenly spaced: pictures (n, 3, 5 H, W)."""
    steps = torch.linspace(0, model.num_timesteps - 1, _ROW_STEPS).long()
    noise = torch.randn_like(z)
    noised = [model.q_sample(z, t.expand(len(z)).to(z.device), noise) for t in steps]
    return _rows(model, noised)


def _rows(model: Any, latents: list[Tensor]) -> Tensor:
    """Decode a list of latents (n,C,h,w) as pictures one below the other: (n, 3, k H, W)."""
    return torch.cat([model.decode_first_stage(x) for x in latents], dim=2)


def _painted(model: Any, z: Tensor, draw: Any, size: torch.Size) -> dict[str, Tensor]:
    """Draw the middle anew with the rest kept, and the other way round."""
    h, w = z.shape[-2:]
    keep = torch.ones(len(z), 1, h, w, device=z.device)
    keep[:, :, h // 4 : 3 * h // 4, w // 4 : 3 * w // 4] = 0.0
    inside, _ = draw(mask=keep, x0=z)
    outside, _ = draw(mask=1.0 - keep, x0=z)
    return {
        "mask": interpolate(keep, size=size).expand(-1, 3, -1, -1) * 2 - 1,
        "samples_inpainting": model.decode_first_stage(inside),
        "samples_outpainting": model.decode_first_stage(outside),
    }
