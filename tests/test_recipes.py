"""Each recipe that ships trains on a folder of pictures, made small by overrides alone."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from quick_training import QUICK
from running import load_program
from safetensors.torch import save_file

import main
from ldm.config import build, load_config
from ldm.util import get_obj_from_str

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "configs" / "recipes"
FINETUNE = ROOT / "configs" / "stable-diffusion" / "v1-finetune.yaml"

FIRST_STAGE = ("ddconfig.ch=32", "ddconfig.ch_mult=[1,1,1]", "ddconfig.resolution=16")
LOSS = ("model.params.lossconfig.params.disc_start=1", "model.params.lossconfig.params.disc_ndf=8")
UNET = "model.params.unet_config.params"
SMALL_UNET = (f"{UNET}.model_channels=32", f"{UNET}.num_res_blocks=1", f"{UNET}.channel_mult=[1,1]")
TEXT = "model.params.cond_stage_config.params.text_config"
SMALL_TEXT = (
    f"{TEXT}.hidden_size=32",
    f"{TEXT}.intermediate_size=32",
    f"{TEXT}.num_hidden_layers=1",
    f"{TEXT}.num_attention_heads=2",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Return a folder with pictures of two classes, each with a caption."""
    folder = tmp_path_factory.mktemp("recipes")
    for split in ("train", "validation"):
        for number, name in enumerate(("cats", "dogs")):
            place = folder / split / name
            place.mkdir(parents=True)
            for k in range(2):
                pixels = np.full((20, 24, 3), 60 + 90 * number + 20 * k, np.uint8)
                Image.fromarray(pixels).save(place / f"{k}.png")
                (place / f"{k}.txt").write_text(f"one of the {name}", encoding="utf-8")
    return folder


def train(work, config: Path, name: str, *overrides: str) -> dict:
    """Train for two steps and return the checkpoint."""
    data = [f"data.params.{s}.params.root={work / s}" for s in ("train", "validation")]
    sizes = [f"data.params.{split}.params.size=16" for split in ("train", "validation")]
    base = ["-b", str(config), "-t", "-n", name, "-l", str(work)]
    assert main.main([*base, *data, *sizes, *QUICK, *overrides]) == 0
    saved = torch.load(last(work, name), weights_only=True)
    assert saved["global_step"] in (2, 4)  # Lightning counts each of two optimizers' steps
    assert all(torch.isfinite(v).all() for v in saved["state_dict"].values())
    return saved["state_dict"]


def last(work, name: str) -> Path:
    (found,) = work.glob(f"*_{name}/checkpoints/last.ckpt")
    return found


def small_first_stage(prefix: str) -> list[str]:
    return [f"{prefix}.{setting}" for setting in FIRST_STAGE]


def first_stage(work, kind: str) -> list[str]:
    """Train a first stage of that kind, once, and return the overrides that use it."""
    if not list(work.glob(f"*_{kind}/checkpoints/last.ckpt")):
        quick = "lightning.callbacks.image_logger.params.log_images_kwargs=null"
        small = small_first_stage("model.params")
        train(work, RECIPES / f"first_stage_{kind}.yaml", kind, *small, *LOSS, quick)
    inside = "model.params.first_stage_config.params"
    return [*small_first_stage(inside), f"{inside}.ckpt_path={last(work, kind)}"]


@pytest.mark.parametrize("kind", ["kl", "vq"])
def test_a_first_stage_trains_with_its_discriminator(work, kind):
    first_stage(work, kind)
    state = torch.load(last(work, kind), weights_only=True)["state_dict"]
    assert any(name.startswith("loss.discriminator.") for name in state)
    assert list(work.glob(f"*_{kind}/images/val/reconstruction*"))


@pytest.mark.parametrize(
    ("recipe", "kind", "more"),
    [
        ("unconditional", "kl", ()),
        ("class_conditional", "vq", ("model.params.cond_stage_config.params.n_classes=3",)),
        ("text_conditional", "kl", (*SMALL_TEXT, f"{UNET}.context_dim=32")),
    ],
)
def test_a_diffusion_recipe_trains_in_the_latents_of_a_first_stage(work, recipe, kind, more):
    organ = first_stage(work, kind)
    state = train(work, RECIPES / f"{recipe}.yaml", recipe, *organ, *SMALL_UNET, *more)
    assert float(state["scale_factor"]) != 1.0
    first = torch.load(last(work, kind), weights_only=True)["state_dict"]
    name = "encoder.conv_in.weight"
    torch.testing.assert_close(state[f"first_stage_model.{name}"], first[name], rtol=0, atol=0)
    assert list(work.glob(f"*_{recipe}/images/val/samples*"))


@pytest.fixture(scope="module")
def published(work):
    """Return overrides that make SD v1 small, and the file of such a model, without averages."""
    inside = "model.params.first_stage_config.params.ddconfig"
    small = [
        *SMALL_UNET,
        f"{UNET}.attention_resolutions=[2]",
        f"{UNET}.context_dim=32",
        f"{inside}.ch=32",
        f"{inside}.ch_mult=[1,1,1]",
        *SMALL_TEXT,
    ]
    overrides = [*small, "model.params.ckpt_path=null", "model.params.use_ema=false"]
    model = build(load_config(FINETUNE, overrides=overrides))
    save_file(model.state_dict(), work / "v1.safetensors")
    return [*small, f"model.params.ckpt_path={work / 'v1.safetensors'}"], model.state_dict()


@pytest.mark.parametrize("what", ["all", "attn"])
def test_fine_tuning_starts_at_the_checkpoint_and_moves_what_is_trainable(work, published, what):
    small, before = published
    trainable = f"model.params.unet_trainable={what}"
    rate = "model.params.scheduler_config.params.warm_up_steps=[1]"
    after = train(work, FINETUNE, f"finetune_{what}", *small, trainable, rate)
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved
    assert all(name.startswith("model.diffusion_model.") for name in moved)
    assert all(".attn2." in name for name in moved) == (what == "attn")
    averages = [name for name in after if name.startswith("model_ema.diffusion_model")]
    assert len(averages) == len([name for name in before if name.startswith("model.diffusion")])


def test_fine_tuning_goes_by_latents_computed_once(work, published):
    program, (small, _) = load_program("scripts/precompute_latents.py"), published
    data = [f"data.params.train.params.root={work / 'train'}", "data.params.train.params.size=16"]
    out = work / "latents"
    base = ["--base", str(FINETUNE), "--out", str(out), "--device", "cpu"]
    assert program.main([*base, *small, *data]) == 0
    validation = "data.params.validation=null"
    run = ["-b", str(FINETUNE), "-t", "-n", "latents", "-l", str(work), "--latents", str(out)]
    assert main.main([*run, *small, *QUICK, validation]) == 0
    assert list(work.glob("*_latents/images/train/reconstruction*"))
    assert not list(work.glob("*_latents/images/train/inputs*"))


def test_fine_tuning_without_the_checkpoint_says_so(work, capsys):
    missing = "model.params.ckpt_path=nowhere/model.ckpt"
    small = [*SMALL_UNET, f"{UNET}.context_dim=32", *SMALL_TEXT]
    root = f"data.params.train.params.root={work / 'train'}"
    assert main.main(["-b", str(FINETUNE), "-t", "-l", str(work), root, missing, *small]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "nowhere/model.ckpt" in line


LOGGED = "lightning.callbacks.image_logger.params.log_images_kwargs"
WITH_PICTURES = [
    path
    for path in sorted((ROOT / "configs").rglob("*.yaml"))
    if "log_images_kwargs" in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("path", WITH_PICTURES, ids=lambda path: path.name)
def test_what_a_recipe_says_of_a_runs_pictures_is_what_its_hub_takes(path):
    config = OmegaConf.load(path)
    hub = get_obj_from_str(config.model.target)
    given = OmegaConf.select(config, LOGGED) or {}
    assert set(given) <= set(inspect.signature(hub.log_images).parameters)
