"""Plans for models of every kind."""

from __future__ import annotations

import pytest
import torch
from offload_parts import Elsewhere, Late, assert_same, loads, make_tiny, snapshot, use
from tiny_model import write_tiny_model

from ldm.checkpoint.load import load_model
from ldm.offload.plan import POLICIES, PlanSettings


@pytest.mark.parametrize("policy", POLICIES)
def test_averaged_weights_are_exchanged_on_the_host(attach, policy):
    model = make_tiny(use_ema=True)
    for shadow in model.model_ema.buffers():
        if shadow.ndim:
            shadow.mul_(0.5)
    with model.ema_scope():
        averaged = use(model)["latent"]
    plain = use(model)["latent"]
    assert not torch.equal(averaged, plain)
    plan = attach(model, Elsewhere(), policy=policy)
    use(model)
    with model.ema_scope():
        assert torch.equal(use(model)["latent"], averaged)
        plan.change(PlanSettings("four-part"))
        assert torch.equal(use(model)["latent"], averaged)
    assert torch.equal(use(model)["latent"], plain)


def test_weights_of_a_mapped_file_are_only_read(tmp_path, attach):
    path = write_tiny_model(tmp_path)
    model, _ = load_model(tmp_path / "config.yaml", path)
    expected, before, written = use(model), snapshot(model), path.read_bytes()
    for policy in POLICIES:
        plan = attach(model, Elsewhere(), policy=policy)
        assert torch.equal(use(model)["latent"], expected["latent"])
        plan.detach()
    assert_same(before, snapshot(model))
    assert path.read_bytes() == written


def test_shared_weights_stay_on_the_device(attach):
    model = make_tiny()
    unet = model.model.diffusion_model
    unet.output_blocks[3][0].out_layers[3] = unet.input_blocks[1][0].out_layers[3]
    unet.output_blocks[0][0].emb_layers[1].bias = unet.output_blocks[0][0].in_layers[2].bias
    expected, before = use(model), snapshot(model)
    for policy in POLICIES:
        plan = attach(model, Late(), policy=policy)
        assert torch.equal(use(model)["latent"], expected["latent"])
        plan.detach()
        assert_same(before, snapshot(model))


PLAIN = {"use_spatial_transformer": False, "context_dim": None}
KINDS = {
    "plain": ({"cond_stage_config": "__is_unconditional__", "unet": PLAIN}, None),
    "concat": (
        {
            "cond_stage_config": "__is_first_stage__",
            "conditioning_key": "concat",
            "unet": {**PLAIN, "in_channels": 8},
        },
        lambda: {"c_concat": [torch.ones(2, 4, 8, 8)]},
    ),
    "hybrid": (
        {"conditioning_key": "hybrid", "unet": {"in_channels": 8}},
        lambda: {"c_concat": [torch.ones(2, 4, 8, 8)], "c_crossattn": [torch.ones(2, 77, 32)]},
    ),
    "adm": (
        {
            "cond_stage_config": {"target": "torch.nn.Identity"},
            "conditioning_key": "adm",
            "unet": {**PLAIN, "num_classes": 10},
        },
        lambda: {"c_crossattn": [torch.tensor([3, 4])]},
    ),
    "codebook": (
        {"cond_stage_config": "__is_unconditional__", "unet": {**PLAIN, "n_embed": 6}},
        None,
    ),
    "resampling": (
        {
            "cond_stage_config": "__is_unconditional__",
            "unet": {**PLAIN, "resblock_updown": True, "use_scale_shift_norm": True},
        },
        None,
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_conditioning_works(attach, kind):
    changes, make_cond = KINDS[kind]
    model = make_tiny(**changes)
    cond = make_cond and make_cond()
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 500])
    with torch.no_grad():
        expected = model.apply_model(x, t, cond)
        for policy, rows in (("four-part", None), ("stream", None), ("turbo", 1), ("stream", 1)):
            plan = attach(model, Late(), policy=policy, unet_rows=rows)
            given = model.apply_model(x, t, cond)
            plan.release()
            assert plan.ledger.resident == set()
            plan.detach()
            assert torch.allclose(given, expected, atol=1e-5 if rows else 0, rtol=0)


def test_a_first_stage_in_place_of_a_conditioner_is_one_stage(attach):
    model = make_tiny(**KINDS["concat"][0])
    picture = torch.randn(1, 3, 16, 16)
    plan = attach(model, policy="four-part")
    with torch.no_grad():
        cond = model.get_learned_conditioning(picture)
    assert cond.shape == (1, 4, 8, 8)
    assert loads(plan.ledger) == ["autoencoder"]


def test_a_first_stage_without_weights_is_left_as_it_is(attach):
    identity = {
        "target": "ldm.models.autoencoder.IdentityFirstStage",
        "params": {"vq_interface": 1},
    }
    model = make_tiny(first_stage_config=identity)
    attach(model, policy="four-part", tiled_decode=True)
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(model.first_stage_model.decode(x), x)
        assert model.first_stage_model.quantize(x)[0] is x


def test_methods_that_others_exchanged_are_called_and_stay(tiny, attach, monkeypatch):
    encoder, seen = tiny.cond_stage_model, []

    def encode(texts):
        seen.append(texts)
        return encoder(texts)

    monkeypatch.setattr(encoder, "encode", encode)
    plan = attach(tiny, Elsewhere(), policy="four-part")
    with torch.no_grad():
        tiny.get_learned_conditioning(["a"])
    assert seen == [["a"]] and loads(plan.ledger) == ["text"]
    plan.detach()
    assert vars(encoder)["encode"] is encode
