"""Text-guided inpainting by 9 channels: diffusers' pipeline draws the same from the same noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from parity.peers import UNET, VAE, relative_error, unet_twins, vae_twins
from PIL import Image
from tiny_model import CONFIG

from ldm.config import build
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.pipelines.init_image import InitImage
from ldm.pipelines.inpainting import HybridWalk
from ldm.pipelines.masks import Mask
from ldm.pipelines.request import Request
from ldm.settings.inpaint import InpaintSettings

SIDE, STEPS, SCALE, ROWS = 64, 5, 7.5, 2
SCHEDULE = {
    "beta_schedule": "scaled_linear",  # which CompVis calls "linear"
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}


def without_spread(vae):
    """Make an autoencoder's posterior a point, so that nothing is drawn from it."""
    with torch.no_grad():
        vae.quant_conv.weight[4:] = 0.0
        vae.quant_conv.bias[4:] = -60.0  # log-variance; both sides clamp it to -30
    return vae


def picture():
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = np.stack([9 * x + 3 * y, 20 * x * y, 7 * y - 2 * x], -1)
    return Image.fromarray((127 + 100 * np.sin(6 * waves)).astype(np.uint8))


def mask():
    marked = np.zeros((SIDE, SIDE), bool)
    marked[13:45, 20:50] = True  # not on the latent's grid
    return marked


def our_model(unet, vae):
    config = OmegaConf.create(CONFIG)
    params = config.model.params
    params.conditioning_key = "hybrid"
    params.unet_config.params = {**UNET, "in_channels": 9}
    params.first_stage_config.params.ddconfig = VAE
    model = build(config).eval()
    model.model.diffusion_model.load_state_dict(unet.state_dict())
    model.first_stage_model.load_state_dict(vae.state_dict())
    return model


class Given:
    """The noise that a walk starts from; nothing else here has a part in the picture."""

    def __init__(self, start):
        self.start = start

    def randn(self, shape, device="cpu", dtype=torch.float32):
        fits = tuple(shape) == tuple(self.start.shape)
        return self.start if fits else torch.zeros(tuple(shape), device=device, dtype=dtype)


@torch.no_grad()
def ours(unet, vae, start, cond, uncond):
    model = our_model(unet, vae)
    settings = InpaintSettings(
        ddim_steps=STEPS, n_samples=ROWS, strength=1.0, C=4, f=8, seed_mode="per-image"
    )
    request = Request(settings, None, ["a"] * ROWS, InitImage(picture(), mask=Mask(mask())))
    walk = HybridWalk(request, model, model.device)
    walk.encode()
    sampler = DDIMSampler(model)
    sampler.make_schedule(STEPS, verbose=False)
    guidance = {
        "unconditional_guidance_scale": SCALE,
        "unconditional_conditioning": uncond.expand(ROWS, -1, -1),
    }
    cond = cond.expand(ROWS, -1, -1)
    return list(walk.begin(sampler, Given(start), ROWS, cond=cond, **guidance)[1])[-1].x


def theirs(diffusers, unet, vae, start, cond, uncond):
    vae.register_to_config(scaling_factor=CONFIG["model"]["params"]["scale_factor"])
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=unet,
        scheduler=diffusers.DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt_embeds=cond.expand(ROWS, -1, -1),
        negative_prompt_embeds=uncond.expand(ROWS, -1, -1),
        image=picture(),
        mask_image=Image.fromarray(mask()),
        height=SIDE,
        width=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        latents=start,
        output_type="latent",
    ).images


def test_a_9_channel_model_paints_as_diffusers_inpaint_pipeline_does():
    diffusers = pytest.importorskip("diffusers")
    (our_unet, their_unet), (our_vae, their_vae) = unet_twins(9), vae_twins()
    draws = torch.Generator().manual_seed(0)
    start, cond, uncond = (
        torch.randn(*shape, generator=draws)
        for shape in ((ROWS, 4, SIDE // 8, SIDE // 8), (1, 77, 64), (1, 77, 64))
    )
    expected = theirs(diffusers, their_unet, without_spread(their_vae), start, cond, uncond)
    painted = ours(our_unet, without_spread(our_vae), start, cond, uncond)
    # diffusers builds its schedule in float32, this project in float64: 9e-7 apart.
    assert relative_error(painted, expected) < 1e-4
