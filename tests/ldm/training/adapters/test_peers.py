"""diffusers and peft draw with the files of a run what the run itself draws."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from ldm.checkpoint.diffusers.convert import Conversion, to_diffusers
from ldm.config import build
from ldm.models.diffusion.ddim import DDIMSampler

PROMPT, SCALE, STEPS, SIDE = "a photo of <my-cat>", 3.0, 4, 16
LORA = "ldm.training.adapters.lora.LoRATraining"
TRAINED = {
    "lora": {"target": LORA, "params": {"rank": 2, "text": True, "alpha": 1.0}},
    # Of the UNet alone: transformers 5.24 does not find peft's lengths of a text encoder's rows.
    "dora": {"target": LORA, "params": {"rank": 2, "dora": True}},
    "word": {
        "target": "ldm.training.adapters.textual_inversion.TextualInversionTraining",
        "params": {"name": "<my-cat>", "initializer": "cat", "vectors": 2},
    },
}
TRAINED["lora"]["params"]["forms"] = TRAINED["dora"]["params"]["forms"] = ["kohya", "diffusers"]
FILES = [
    ("lora", "lora.safetensors"),
    ("lora", "lora.diffusers.safetensors"),
    ("dora", "dora.diffusers.safetensors"),
    ("word", "my-cat.safetensors"),
    ("word", "my-cat.pt"),
]


@pytest.fixture(scope="module")
def pipe(runs):
    pytest.importorskip("peft")
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    folder = runs.folder / "diffusers"
    to_diffusers(runs.base, folder, runs.folder / "config.yaml", Conversion())
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(
        pipe.scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def drawn(runs):
    """Return what each run draws at its end, and what the model draws without: (1, 3, H, W)."""
    pictures = {}
    for name, adapter in TRAINED.items():
        # Far enough that what a reader leaves out is seen.
        config = runs.config(adapter)
        config["model"]["base_learning_rate"] = 0.05
        config["data"]["params"]["train"]["params"]["name"] = "<my-cat>"
        assert runs.start(name, config) == 0
        hub = build(OmegaConf.create(config))
        hub.load_state_dict(runs.checkpoint(name)["state_dict"], strict=False)
        pictures[name] = draw(hub.eval())
        hub.handle.detach()
    return {**pictures, "none": draw(hub)}


def noise():
    return torch.randn(1, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def draw(hub):
    z, _ = DDIMSampler(hub).sample(
        STEPS,
        1,
        (4, SIDE // 2, SIDE // 2),
        hub.get_learned_conditioning([PROMPT]),
        x_T=noise(),
        unconditional_guidance_scale=SCALE,
        unconditional_conditioning=hub.get_learned_conditioning([""]),
        verbose=False,
    )
    return ((hub.decode_first_stage(z) + 1) / 2).clamp(0, 1)


def peer_draw(pipe):
    out = pipe(
        PROMPT,
        height=SIDE,
        width=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=SCALE,
        latents=noise(),
        output_type="pt",
    )
    return out.images


@pytest.mark.parametrize(("name", "file"), FILES)
def test_the_picture_is_the_same(runs, drawn, pipe, name, file):
    path = runs.run(name) / "adapter" / file
    if name == "word":
        pipe.load_textual_inversion(str(path), token="<my-cat>")
    else:
        pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    try:
        theirs = peer_draw(pipe)
    finally:
        pipe.unload_textual_inversion() if name == "word" else pipe.unload_lora_weights()
    torch.testing.assert_close(drawn[name], theirs, rtol=0, atol=1e-4)
    assert (drawn["none"] - theirs).abs().max() > 2e-3  # twenty times the tolerance
