"""Pictures under control are those of diffusers' own pipelines, from the same weights and noise."""

from __future__ import annotations

import diffusers
import pytest
import torch
from control_parts import control_config, drawing, inputs, peer_adapter, peer_net, peer_unet
from narrow_models import narrow_model

from ldm.adapters.control import read_control
from ldm.checkpoint.diffusers.keymaps import vae_to_diffusers
from ldm.models.diffusion.ddim import DDIMSampler

STEPS, GUIDANCE = 4, 3.0
"""Four steps divide the thousand of training, so that both place them alike."""
SHARED = {
    "text_encoder": None,
    "tokenizer": None,
    "safety_checker": None,
    "feature_extractor": None,
    "requires_safety_checker": False,
}


@pytest.fixture(scope="module")
def model():
    """A model whose first stage halves sides three times, as a ControlNet's hint block does."""
    config = control_config()
    ddconfig = config["model"]["params"]["first_stage_config"]["params"]["ddconfig"]
    ddconfig.update(ch_mult=[1, 1, 1, 1], resolution=64)
    return narrow_model(config).requires_grad_(False)


@pytest.fixture(scope="module")
def parts(model):
    """Diffusers' modules with the model's weights, and its scheduler."""
    vae = diffusers.AutoencoderKL(
        latent_channels=4,
        block_out_channels=(32,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=64,
        scaling_factor=float(model.scale_factor),
    ).eval()
    ddconfig = {"ch_mult": [1] * 4, "num_res_blocks": 1}
    vae.load_state_dict(vae_to_diffusers(model.first_stage_model.state_dict(), ddconfig))
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        steps_offset=1,
        clip_sample=False,
        set_alpha_to_one=False,
    )
    return {"vae": vae, "unet": peer_unet(model), "scheduler": scheduler, **SHARED}


def theirs(pipe, image, **scales):
    pipe.set_progress_bar_config(disable=True)
    cond, uncond = inputs(2)[2].split(1)
    images = pipe(
        image=image,
        prompt_embeds=cond,
        negative_prompt_embeds=uncond,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        latents=inputs(1)[0],
        output_type="pt",
        height=64,
        width=64,
        **scales,
    ).images
    # The adapter's pipeline knows no "pt", and returns arrays (1, H, W, 3).
    return images if torch.is_tensor(images) else torch.from_numpy(images).movedim(-1, 1)


@torch.no_grad()
def ours(model):
    cond, uncond = inputs(2)[2].split(1)
    guided = {"unconditional_conditioning": uncond, "unconditional_guidance_scale": GUIDANCE}
    options = {"x_T": inputs(1)[0], "verbose": False, **guided}
    samples = DDIMSampler(model).sample(STEPS, 1, (4, 8, 8), cond, **options)[0]
    return ((model.decode_first_stage(samples) + 1) / 2).clamp(0, 1)


def test_two_control_nets_draw_diffusers_picture(model, parts, tmp_path):
    nets, hints, scales = [peer_net(0), peer_net(1)], [drawing(), drawing(seed=5)], [1.0, 0.5]
    pipe = diffusers.StableDiffusionControlNetPipeline(controlnet=nets, **parts)
    want = theirs(pipe, hints, controlnet_conditioning_scale=scales)
    for number, net in enumerate(nets):
        net.save_pretrained(tmp_path / str(number))
    read = [read_control(tmp_path / str(number), model) for number in range(2)]
    with read[0].attach(model, hints[0], scales[0]), read[1].attach(model, hints[1], scales[1]):
        drawn = ours(model)
    torch.testing.assert_close(drawn, want, rtol=0, atol=1e-4)
    assert (ours(model) - want).abs().max() > 1e-2


def test_a_control_net_within_its_steps_draws_diffusers_picture(model, parts, tmp_path):
    net = peer_net(0)
    pipe = diffusers.StableDiffusionControlNetPipeline(controlnet=net, **parts)
    window = {"control_guidance_start": 0.25, "control_guidance_end": 0.75}
    want = theirs(pipe, drawing(), **window)
    net.save_pretrained(tmp_path)
    with read_control(tmp_path, model).attach(model, drawing(), start=0.25, end=0.75):
        torch.testing.assert_close(ours(model), want, rtol=0, atol=1e-4)


def test_an_adapter_draws_diffusers_picture(model, parts, tmp_path):
    adapter = peer_adapter("full_adapter", 3)
    pipe = diffusers.StableDiffusionAdapterPipeline(adapter=adapter, **parts)
    want = theirs(pipe, drawing(), adapter_conditioning_scale=0.7)
    adapter.save_pretrained(tmp_path)
    with read_control(tmp_path, model).attach(model, drawing(), 0.7):
        torch.testing.assert_close(ours(model), want, rtol=0, atol=1e-4)
