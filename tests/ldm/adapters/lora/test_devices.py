"""A LoRA on models under plans of devices, and on weights that are mapped from their file."""

from __future__ import annotations

import copy

import pytest
import torch
from lora_files import save
from narrow_models import write_narrow_model
from offload_parts import CPU, Elsewhere, Late
from parity.peers import relative_error
from safetensors.torch import load_file

from ldm.adapters.lora import read_lora
from ldm.adapters.lora.places import Places
from ldm.checkpoint.load import load_model
from ldm.errors import UserError
from ldm.offload.home import PLANS
from ldm.offload.plan import PlanSettings, StagePlan

POLICIES = ("stream", "four-part", "turbo", "resident")


def plan_of(model, policy, mover):
    return StagePlan(model, PlanSettings(policy=policy), CPU, mover=mover()).attach()


@pytest.fixture(scope="module", params=["v1", "v2"])
def case(request, files, model, model_v2):
    """A model and a LoRA of it."""
    return (model, files[0]) if request.param == "v1" else (model_v2, files[3])


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("policy", POLICIES)
def test_under_a_plan_it_acts_as_without(policy, merge, case, predict):
    model, path = case
    plain = predict(model)
    with read_lora(path).attach(model, 0.5, merge=merge):
        expected = predict(model)
    plan = plan_of(model, policy, Late if policy == "stream" else Elsewhere)
    with torch.no_grad():
        handle = read_lora(path).attach(model, 0.5, merge=merge)
        assert relative_error(predict(model), expected) < 1e-6
        handle.scale = 0.0
        assert torch.equal(predict(model), plain)
        handle.detach()
        assert torch.equal(predict(model), plain)
    plan.detach()
    assert not PLANS


@pytest.mark.parametrize("policy", ["stream", "four-part"])
def test_a_dora_finds_the_weights_where_they_are(policy, files, tmp_path, predict, model):
    tensors = load_file(files[0])
    for place in Places(model):
        if place.part == "unet" and f"{place.flat}.alpha" in tensors:
            lengths = place.module.weight.detach().flatten(1).norm(dim=1) * 1.1
            tensors[f"{place.flat}.dora_scale"] = lengths.reshape(-1, *[1] * (len(place.shape) - 1))
    path = save(tensors, tmp_path / "a.safetensors")
    plain = predict(model)
    with read_lora(path).attach(model):
        expected = predict(model)
    plan = plan_of(model, policy, Late if policy == "stream" else Elsewhere)
    with torch.no_grad(), read_lora(path).attach(model):
        assert relative_error(predict(model), expected) < 1e-6
    plan.detach()
    assert torch.equal(predict(model), plain)


@pytest.mark.parametrize("order", ["plan leaves first", "LoRA leaves first"])
@pytest.mark.parametrize("policy", ["stream", "four-part"])
def test_a_merged_model_goes_under_a_plan_and_comes_back(policy, order, files, predict, model):
    before = {name: (t, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    plain = predict(model)
    handle = read_lora(files[0]).attach(model, merge=True)
    merged = predict(model)
    plan = plan_of(model, policy, Elsewhere)
    assert torch.equal(predict(model), merged)
    for leaving in (plan, handle) if order.startswith("plan") else (handle, plan):
        leaving.detach()
    assert torch.equal(predict(model), plain)
    now = model.state_dict(keep_vars=True)
    assert all(now[n] is t and torch.equal(t, v) for n, (t, v) in before.items())


def test_weights_are_not_replaced_while_they_compute(files, model):
    handle = read_lora(files[0]).attach(model)
    plan = plan_of(model, "four-part", Elsewhere)
    with torch.no_grad(), plan.on("text"), pytest.raises(RuntimeError, match="text is in use"):
        handle.merge()
    plan.detach()
    handle.detach()


@pytest.mark.parametrize("merge", [False, True])
def test_mapped_weights_come_back_and_their_file_stays(merge, files, predict, tmp_path):
    ckpt, config = write_narrow_model(tmp_path, "v1")
    content = ckpt.read_bytes()
    mapped = load_model(config, ckpt)[0]
    plain, tensors = predict(mapped), dict(mapped.state_dict(keep_vars=True))
    with read_lora(files[0]).attach(mapped, merge=merge):
        assert not torch.equal(predict(mapped), plain)
    assert torch.equal(predict(mapped), plain) and ckpt.read_bytes() == content
    assert all(t is tensors[n] for n, t in mapped.state_dict(keep_vars=True).items())


def test_on_the_meta_device_it_waits_for_weights(files, model):
    empty = copy.deepcopy(model).to("meta")
    handle = read_lora(files[0]).attach(empty)
    with pytest.raises(UserError, match="cannot be merged into weights on the meta device"):
        handle.merge()
    handle.detach()
