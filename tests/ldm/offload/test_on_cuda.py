"""What only a CUDA device can show: the same pictures, the memory, the order of two streams."""

from __future__ import annotations

import copy

import pytest
import torch
from offload_parts import assert_same, make_tiny, snapshot, use

from ldm.offload.budget import estimate, free_memory, measure
from ldm.offload.plan import POLICIES, PlanSettings, StagePlan

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

DEVICE = torch.device("cuda")


@pytest.fixture(scope="module")
def on_cuda():
    """What the tiny model gives on the device without a plan."""
    model = make_tiny().to(DEVICE)
    return {name: value.cpu() for name, value in use(model).items()}


@pytest.fixture(scope="module")
def full_size(v1):
    """A model of full size in half precision; its numbers are of no concern."""
    return copy.deepcopy(v1).to_empty(device="cpu")


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_gives_the_same_and_leaves_nothing(on_cuda, policy, rows):
    model = make_tiny()
    before, memory = snapshot(model), torch.cuda.memory_allocated()
    plan = StagePlan(model, PlanSettings(policy, rows), DEVICE).attach()
    assert model.device.type == "cuda"
    for _ in range(3):
        given = {name: value.cpu() for name, value in use(model).items()}
        for name, value in given.items():
            assert torch.allclose(value, on_cuda[name], atol=1e-3), name
    plan.detach()
    assert_same(before, snapshot(model))
    assert torch.cuda.memory_allocated() == memory


def test_slow_layers_are_not_overtaken_by_copies(on_cuda):
    model = make_tiny()
    plan = StagePlan(model, PlanSettings("stream"), DEVICE).attach()
    slow = [
        module.register_forward_pre_hook(lambda *_: torch.cuda._sleep(2_000_000))
        for module in model.model.diffusion_model.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    for _ in range(3):
        assert torch.allclose(use(model)["latent"].cpu(), on_cuda["latent"], atol=1e-3)
    for handle in slow:
        handle.remove()
    plan.detach()


@pytest.mark.parametrize("rows", [None, 1])
@pytest.mark.parametrize("policy", POLICIES)
def test_the_estimate_holds_for_the_full_model(full_size, policy, rows):
    settings = PlanSettings(policy, rows, tiled_decode=rows == 1)
    plan = StagePlan(full_size, settings, DEVICE).attach()
    torch.cuda.reset_peak_memory_stats()
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.float16):
        cond = full_size.get_learned_conditioning(["", "a cat"])
        x = torch.zeros(2, 4, 64, 64, device=DEVICE)
        for _ in range(2):
            x = full_size.apply_model(x, torch.zeros(2, device=DEVICE), cond).float()
        full_size.decode_first_stage(x[:1])
    peak = torch.cuda.max_memory_allocated()
    plan.detach()
    expected = estimate(measure(full_size), settings, height=512, width=512, rows=2, itemsize=2)
    assert peak < 1.15 * expected


def test_memory_that_torch_keeps_counts_as_free():
    torch.cuda.empty_cache()
    before = free_memory(DEVICE)
    kept = torch.empty(2**28, dtype=torch.uint8, device=DEVICE)
    assert free_memory(DEVICE) <= before - 2**28
    del kept
    assert free_memory(DEVICE) >= before - 2**22
