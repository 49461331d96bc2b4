"""What knn2img can be asked: the reference's flags and defaults, models and places."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ldm.checkpoint.default_config import RETRIEVAL_CONFIG, default_config
from ldm.errors import UserError
from ldm.pipelines.models import choose_model, resolve
from ldm.retrieval.settings import RetrievalSettings, database_path, searcher_path
from ldm.settings.command_line import parse
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.model_kind import RETRIEVAL
from ldm.settings.option import options_of

REFERENCE = [
    "--prompt",
    "--outdir",
    "--skip_grid",
    "--ddim_steps",
    "--n_repeat",
    "--plms",
    "--ddim_eta",
    "--n_iter",
    "--H",
    "--W",
    "--n_samples",
    "--n_rows",
    "--scale",
    "--from-file",
    "--config",
    "--ckpt",
    "--clip_type",
    "--database",
    "--use_neighbors",
    "--knn",
]


def test_the_references_flags_and_defaults_are_there():
    settings = RetrievalSettings()
    flags = {each.flag for each in options_of(settings)}
    assert set(REFERENCE) - {"--plms"} <= flags and "--laion400m" not in flags
    assert (settings.ddim_steps, settings.scale, settings.n_samples) == (50, 5.0, 3)
    assert (settings.n_iter, settings.clip_type) == (1, "ViT-L/14")
    assert settings.ckpt == "models/rdm/rdm768x768/model.ckpt"
    suited = RetrievalSettings(use_neighbors=True).suited(RETRIEVAL, ())
    assert (suited.knn, suited.database) == (10, "artbench-surrealism")
    assert parse(RetrievalSettings, "", ["--plms", "--knn", "4"]) == {"sampler": "plms", "knn": 4}


def test_taking_a_flag_away_leaves_it_to_the_other_program():
    assert "laion400m" in {each.name for each in options_of(Txt2ImgSettings)}
    with pytest.raises(TypeError):
        RetrievalSettings(laion400m=True)
    assert not RetrievalSettings().laion400m


def test_the_shipped_configuration_is_a_retrieval_model_of_768_pixels(tmp_path):
    (tmp_path / "rdm.ckpt").write_bytes(b"")
    settings = RetrievalSettings(ckpt=str(tmp_path / "rdm.ckpt"), config=RETRIEVAL_CONFIG)
    choice = choose_model(settings)
    assert choice.kind is RETRIEVAL
    assert (choice.size, choice.channels, choice.factor, choice.multiple) == (768, 16, 16, 128)
    settings = resolve(settings, choice)
    assert (settings.H, settings.W, settings.C, settings.f) == (768, 768, 16, 16)
    with pytest.raises(UserError, match=r"takes CLIP embeddings\); .*scripts/knn2img.py"):
        choose_model(Txt2ImgSettings(ckpt=settings.ckpt, config=RETRIEVAL_CONFIG))


def test_a_checkpoint_alone_is_known_by_its_sixteen_channels(tmp_path):
    unet = "model.diffusion_model.input_blocks"
    tensors = {
        f"{unet}.0.0.weight": torch.zeros(8, 16, 3, 3),
        f"{unet}.1.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 768),
    }
    save_file(tensors, tmp_path / "rdm.safetensors")
    assert default_config(tmp_path / "rdm.safetensors") == RETRIEVAL_CONFIG


def test_names_and_folders_lead_to_databases_and_searchers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    usual = Path("data/rdm")
    assert database_path("mine") == usual / "retrieval_databases/mine"
    assert searcher_path("mine") == usual / "searchers/mine"
    assert database_path("some/where") == Path("some/where")
    (tmp_path / "here").mkdir()
    assert database_path("here") == Path("here")
    assert searcher_path("here") == Path("here/searcher")
    assert searcher_path("db.npz") == Path("db.searcher")
