"""The edge predictor learns by main.py's means, and the frozen model stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_model import write_tiny_model

from ldm.adapters.sketch import read_edge_predictor
from ldm.adapters.sketch.edges import edges_of

pl = pytest.importorskip("pytorch_lightning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny_model(folder).rename(folder / "model.safetensors")
    return folder


def make(folder, **more):
    from ldm.training.edge_predictor import EdgePredictorTraining

    torch.manual_seed(0)
    return EdgePredictorTraining(str(folder / "config.yaml"), hidden=[32, 16], **more)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    squares = -torch.ones(4, 16, 16, 3)
    for row, (x, y) in enumerate(rng.integers(1, 8, (4, 2))):
        squares[row, y : y + 6, x : x + 6] = 1.0
    return {"jpg": squares, "txt": ["a square"] * 4}


def test_the_loss_falls_and_nothing_but_the_predictor_changes(folder, batch):
    module = make(folder)
    frozen = {n: v.clone() for n, v in module.diffusion_model.state_dict().items()}
    module.learning_rate = 3e-3
    optimizer, losses = module.configure_optimizers(), []
    module.train()
    for _ in range(25):
        loss = module.shared_step(batch, torch.tensor([10, 50, 100, 200]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    after = module.diffusion_model.state_dict()
    assert all(torch.equal(after[n], v) for n, v in frozen.items())
    assert not module.diffusion_model.training


def test_a_trainer_trains_writes_the_file_and_resumes(folder, batch, tmp_path):
    module = make(folder, write_to=str(tmp_path / "edges.safetensors"))
    options = {
        "default_root_dir": tmp_path,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
        "enable_checkpointing": False,
    }
    loader = torch.utils.data.DataLoader([batch] * 2, batch_size=None)
    trainer = pl.Trainer(max_steps=2, **options)
    trainer.fit(module, loader, loader)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    written = read_edge_predictor(tmp_path / "edges.safetensors")
    assert torch.equal(written.first.weight, module.predictor.first.weight)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=False)["state_dict"]
    assert all(name.startswith("predictor.") for name in saved)
    again = make(folder)
    pl.Trainer(max_steps=3, **options).fit(again, loader, ckpt_path=tmp_path / "last.ckpt")
    assert again.global_step == 3


def test_edges_come_from_the_pictures_or_from_the_data(folder, batch):
    module = make(folder)
    pictures = batch["jpg"].movedim(-1, 1)
    assert torch.equal(module.edges(batch), edges_of(pictures))
    given = make(folder, edge_key="edge")
    assert torch.equal(given.edges(batch | {"edge": batch["jpg"]}), pictures)
