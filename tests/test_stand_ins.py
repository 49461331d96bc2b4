"""Any one public file can be another project's: stand-ins with the reference's arguments run.

``tests/stand_ins`` holds one file for each. They define what the reference's file of that name has,
take its arguments and no others, and compute something simple.
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from tiny_model import CONFIG

STAND_INS = Path(__file__).with_name("stand_ins")
IN_PLACE_OF = {
    "util": "ldm.util",
    "attention": "ldm.modules.attention",
    "network_util": "ldm.modules.diffusionmodules.util",
    "openaimodel": "ldm.modules.diffusionmodules.openaimodel",
    "coders": "ldm.modules.diffusionmodules.model",
    "distributions": "ldm.modules.distributions.distributions",
    "ema": "ldm.modules.ema",
    "conditioners": "ldm.modules.encoders.modules",
    "x_transformer": "ldm.modules.x_transformer",
}


@pytest.fixture
def fresh():
    """Forget the package's modules for a test, and bring them back after it."""
    kept = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "ldm"}
    for name in kept:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "ldm"]:
        del sys.modules[name]
    sys.modules.update(kept)
    for name, module in kept.items():
        parent, _, leaf = name.rpartition(".")
        if parent in kept:
            setattr(kept[parent], leaf, module)


def put(stand_in: str) -> None:
    name = IN_PLACE_OF[stand_in]
    spec = importlib.util.spec_from_file_location(name, STAND_INS / f"{stand_in}.py")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    parent, _, leaf = name.rpartition(".")
    setattr(importlib.import_module(parent), leaf, module)


def tiny(seed: int = 0):
    """Build a class-conditional model that keeps averages."""
    config = copy.deepcopy(CONFIG["model"])
    config["params"] |= {"use_ema": True, "cond_stage_key": "class_label"}
    config["params"]["cond_stage_config"] = {
        "target": "ldm.modules.encoders.modules.ClassEmbedder",
        "params": {"embed_dim": 32, "n_classes": 5, "key": "class_label"},
    }
    torch.manual_seed(seed)
    return importlib.import_module("ldm.util").instantiate_from_config(config)


@pytest.mark.parametrize("stand_in", IN_PLACE_OF)
def test_a_model_with_another_projects_file_draws(fresh, stand_in):
    put(stand_in)
    model = tiny().eval()
    labels = {"class_label": torch.tensor([1, 2])}
    with torch.no_grad():
        cond = model.get_learned_conditioning(labels)
        z = model.get_first_stage_encoding(model.encode_first_stage(torch.zeros(2, 3, 16, 16)))
        for name in ("ddim.DDIMSampler", "plms.PLMSSampler", "dpm_solver.DPMSolverSampler"):
            module, _, cls = f"ldm.models.diffusion.{name}".rpartition(".")
            sampler = getattr(importlib.import_module(module), cls)(model)
            x, _ = sampler.sample(
                4,
                2,
                z.shape[1:],
                cond,
                x_T=z,
                verbose=False,
                unconditional_guidance_scale=2.0,
                unconditional_conditioning=cond.flip(0),
            )
            assert model.decode_first_stage(x).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("stand_in", IN_PLACE_OF)
def test_a_model_with_another_projects_file_learns(fresh, stand_in):
    put(stand_in)
    model = tiny().train()
    batch = {"jpg": torch.zeros(2, 16, 16, 3), "class_label": torch.tensor([1, 2])}
    loss, figures = model.shared_step(batch)
    loss.backward()
    assert "train/loss_simple" in figures
    weight = model.model.diffusion_model.out[-1].weight
    assert weight.grad.abs().sum() > 0
    before = weight.detach().clone()
    weight.data += 1.0
    model.model_ema(model.model)
    with model.ema_scope():
        assert not torch.equal(weight, before + 1.0)
    assert torch.equal(weight, before + 1.0)


def test_a_fork_of_the_tokens_transformer_is_what_the_conditioner_is_made_of(fresh):
    put("x_transformer")
    bert = importlib.import_module("ldm.modules.encoders.bert").BERTEmbedder
    made = bert(16, 2, vocab_size=9, max_seq_len=8, use_tokenizer=False)
    tokens = torch.arange(8)[None]
    assert torch.equal(made.encode(tokens), made.transformer.token_emb(tokens))


def test_a_block_without_a_context_recomputes_through_a_function_that_detaches_its_inputs(fresh):
    put("network_util")
    block = importlib.import_module("ldm.modules.attention").BasicTransformerBlock(16, 2, 8)
    x = torch.randn(1, 5, 16, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.abs().sum() > 0 and block.attn1.to_q.weight.grad is not None


@pytest.mark.parametrize("name", ["attention", "openaimodel", "coders", "distributions", "ema"])
def test_a_stand_in_is_what_the_model_is_made_of(fresh, name):
    put(name)
    model = tiny()
    parts = [*model.modules(), model.encode_first_stage(torch.zeros(1, 3, 16, 16))]
    files = {sys.modules[type(part).__module__].__file__ for part in parts}
    assert str(STAND_INS / f"{name}.py") in files
