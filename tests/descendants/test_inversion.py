"""Textual inversion's kind of fork: a file beside ours, a patched encoder, its own loss."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from descendants.exercise import (
    assert_pictures,
    batch_of,
    build_hub,
    changed,
    drawn,
    fit,
    hub_config,
    items,
    weights_of,
)
from pytorch_lightning.callbacks import ModelCheckpoint
from tiny_model import CONFIG

import ldm.modules

HERE = Path(__file__).resolve().parent
ROOT, FORK = HERE.parents[1], HERE / "forks" / "inversion"
MANAGER = "ldm.modules.embedding_manager"
TEXT = CONFIG["model"]["params"]["cond_stage_config"]["params"]


@pytest.fixture
def beside(monkeypatch):
    """Have the fork's folder on the path, as if it had been there when ours was imported."""
    folder = str(FORK / "ldm" / "modules")
    monkeypatch.setattr(ldm.modules, "__path__", [*ldm.modules.__path__, folder])
    yield importlib.import_module(MANAGER)
    del sys.modules[MANAGER]
    vars(ldm.modules).pop("embedding_manager")


def config(**changes):
    encoder = {"target": "descendants.forks.inversion_hub.PatchedCLIP", "params": TEXT}
    return hub_config(
        "descendants.forks.inversion_hub.InversionLDM",
        cond_stage_config=encoder,
        personalization_config={
            "target": f"{MANAGER}.EmbeddingManager",
            "params": {"placeholder": "*"},
        },
        **changes,
    )


def vector(model):
    return model.embedding_manager.vectors["new"].detach().clone()


@pytest.mark.usefixtures("beside")
def test_only_the_new_words_vector_learns_and_its_own_term_is_logged():
    model = build_hub(config())
    parts = {name: weights_of(getattr(model, name)) for name in ("model", "cond_stage_model")}
    before = vector(model)
    trainer = fit(model, items())
    assert not torch.equal(before, vector(model))
    for name, weights in parts.items():
        assert not changed(getattr(model, name), weights)
    assert {"train/loss_distance_step", "train/loss_simple_epoch"} <= set(trainer.logged_metrics)
    assert not model.model.training


@pytest.mark.usefixtures("beside")
def test_the_forks_loss_is_ours_and_its_own_term():
    model = build_hub(config()).eval()
    with torch.no_grad():
        model.embedding_manager.vectors["new"].add_(0.1)
        x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
        noise, cond = torch.randn_like(x), model.get_learned_conditioning(["a *", "b"])
        loss, figures = model.p_losses(x, cond, t, noise)
        ours, parts = super(type(model), model).p_losses(x, cond, t, noise)
    torch.testing.assert_close(loss, ours + 0.1 * figures["val/loss_distance"])
    for name in ("val/loss_simple", "val/loss_vlb"):
        torch.testing.assert_close(figures[name], parts[name])


@pytest.mark.usefixtures("beside")
def test_the_patched_encoder_is_asked_by_training_sampling_and_previews():
    model = build_hub(config()).eval()

    def seen(text):
        with torch.no_grad():
            cond = model.get_learned_conditioning([text] * 2)
            return cond, drawn(model, cond)

    def loss():
        torch.manual_seed(0)
        return float(model.shared_step(batch_of(items(2)))[0].detach())

    before, plain, first = seen("a *"), seen("a toy"), loss()
    model.embedding_manager.vectors["new"].data.add_(1.0)
    after = seen("a *")
    assert not torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
    assert torch.equal(plain[1], seen("a toy")[1])
    assert first != loss()
    settings = {"ddim_steps": 2, "plot_progressive_rows": False, "N": 2}
    log = model.log_images(batch_of(items(2)), **settings, unconditional_guidance_scale=3.0)
    assert_pictures(log, "inputs", "reconstruction", "conditioning", "samples", "diffusion_row")
    assert_pictures(log, "samples_inpainting", "samples_cfg_scale_3.00")


@pytest.mark.usefixtures("beside")
def test_a_checkpoint_holds_what_the_fork_puts_in_and_the_vector_lies_beside_it(tmp_path):
    model = build_hub(config())
    keeping = {"enable_checkpointing": True, "callbacks": [ModelCheckpoint(tmp_path)]}
    fit(model, items(), **keeping)
    (path,) = tmp_path.glob("*.ckpt")
    assert not torch.load(path, weights_only=False)["state_dict"]
    saved = torch.load(tmp_path / "embeddings_gs-2.pt", weights_only=True)
    assert torch.equal(saved["string_to_param"]["new"], vector(model))


def test_main_trains_the_fork_by_its_yaml(tmp_path):
    model = {"base_learning_rate": 1e-3, **config()}
    part = {"target": "training_parts.Pictures", "params": {"length": 4}}
    data = {"batch_size": 2, "num_workers": 0, "train": part}
    trainer = {"max_steps": 2, "log_every_n_steps": 1}
    whole = {
        "model": model,
        "data": {"target": "main.DataModuleFromConfig", "params": data},
        "lightning": {
            "trainer": trainer,
            "modelcheckpoint": {"params": {"every_n_train_steps": 1}},
        },
    }
    (tmp_path / "fork.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    paths = os.pathsep.join(map(str, (FORK, ROOT / "tests", ROOT)))
    command = [sys.executable, ROOT / "main.py", "-b", "fork.yaml", "-t", "-n", "new", "-l", "."]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    (saved,) = tmp_path.rglob("embeddings_gs-2.pt")
    assert torch.load(saved, weights_only=True)["string_to_param"]["new"].shape == (1, 32)
    assert list(tmp_path.rglob("images/train/samples*.png"))
