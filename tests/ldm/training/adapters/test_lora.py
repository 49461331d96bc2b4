"""LoRAs of every kind train beside the model, and their files draw as the run did."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from ldm.adapters.lora import read_lora
from ldm.config import build
from ldm.errors import UserError

KINDS = {
    "text": {"unet": False, "text": True},
    "whole": {"text": True, "conv": True, "alpha": 1.0},
    "dora": {"text": True, "dora": True},
}


def adapter(**params):
    target = "ldm.training.adapters.lora.LoRATraining"
    return {"target": target, "params": {"rank": 2, **params}}


@pytest.fixture(scope="module", params=KINDS)
def trained(request, runs):
    kind = request.param
    config = runs.config(adapter(**KINDS[kind], forms=["kohya", "diffusers"]))
    assert runs.start(kind, config) == 0
    return runs, kind, config


def new_hub(config):
    return build(OmegaConf.create(config))


def filled(runs, kind, config):
    hub, state = new_hub(config), runs.checkpoint(kind)["state_dict"]
    hub.load_state_dict(state, strict=False)
    return hub.eval()


def eps(hub):
    x = torch.linspace(-1, 1, 512).reshape(2, 4, 8, 8)
    with torch.no_grad():
        return hub.apply_model(x, torch.tensor([5, 900]), hub.get_learned_conditioning(["a", "b"]))


def test_every_pair_learns(trained):
    runs, kind, config = trained
    state = runs.checkpoint(kind)["state_dict"]
    ups = [value for name, value in state.items() if name.endswith("lora_up")]
    assert ups
    assert all(value.any() for value in ups)
    names = {name.split(".")[3][:9] for name in state}
    assert names == ({"lora_te_t"} if kind == "text" else {"lora_unet", "lora_te_t"})


def test_the_files_draw_as_the_run_does(trained):
    runs, kind, config = trained
    hub = filled(runs, kind, config)
    in_training = eps(hub)
    hub.handle.detach()
    plain = eps(hub)
    for ending in ("safetensors", "diffusers.safetensors"):
        with read_lora(runs.file(kind, ending), hub).attach(hub):
            drawn = eps(hub)
        torch.testing.assert_close(drawn, in_training, rtol=0, atol=1e-6)
        assert (plain - drawn).abs().max() > 1e-5
        torch.testing.assert_close(eps(hub), plain, rtol=0, atol=0)
    for name, value in runs.weights().items():
        torch.testing.assert_close(hub.state_dict()[name], value, rtol=0, atol=0)


def test_a_resumed_run_is_the_long_one(runs):
    config = runs.config(adapter(text=True), cond_dropout=0.5)
    assert runs.start("long", config, "--max_steps", "3") == 0
    assert runs.start("short", config, "--max_steps", "2") == 0
    assert runs.go_on("short", "--max_steps", "3") == 0
    one, other = runs.checkpoint("long"), runs.checkpoint("short")
    for part in ("state_dict", "optimizer_states", "training_progress"):
        torch.testing.assert_close(one[part], other[part], rtol=0, atol=0)
    assert load_file(runs.file("long")).keys() == load_file(runs.file("short")).keys()
    for name, value in load_file(runs.file("long")).items():
        torch.testing.assert_close(load_file(runs.file("short"))[name], value, rtol=0, atol=0)


def test_gradients_are_the_same_when_activations_are_recomputed(runs):
    gradients = []
    for recompute in (False, True):
        config = OmegaConf.create(runs.config(adapter(text=True)))
        base = OmegaConf.load(runs.folder / "config.yaml").model
        base.params.unet_config.params.use_checkpoint = recompute
        config.model.params.base_config = base
        torch.manual_seed(0)
        hub = build(config)
        loss, _ = hub.shared_step({"jpg": torch.rand(2, 16, 16, 3), "txt": ["a", "b"]})
        loss.backward()
        gradients.append([p.grad for p in hub.adapter.parameters()])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_half_precision_trains_float32_pairs(runs):
    assert runs.start("mixed", runs.config(adapter()), "--precision", "bf16-mixed") == 0
    state = runs.checkpoint("mixed")["state_dict"]
    assert {value.dtype for value in state.values()} == {torch.float32}


def test_an_unknown_form_is_refused(runs):
    with pytest.raises(UserError, match="forms has 'peft'"):
        new_hub(runs.config(adapter(forms=["peft"])))


def test_files_may_hold_half_as_many_bytes(runs):
    whole, half = (
        runs.config(adapter(forms=["kohya"]), half_files=half_files) for half_files in (False, True)
    )
    sizes = []
    for name, config in (("full", whole), ("half", half)):
        assert runs.start(name, config) == 0
        sizes.append(runs.file(name, "safetensors").stat().st_size)
        states = runs.checkpoint(name)["state_dict"].values()
        assert {value.dtype for value in states} == {torch.float32}
    held = read_lora(runs.file("half", "safetensors"))
    assert sizes[1] < 0.75 * sizes[0] and held.changes
