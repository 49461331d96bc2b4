"""A model made ready for a card computes the same, and is afterwards as it was before."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_hubs import latent
from torch import nn

from ldm.kernels.card import channels_last, fuse
from ldm.modules.diffusionmodules.unet_blocks import ResBlock
from ldm.modules.diffusionmodules.util import GroupNorm32

HERE = ("cpu",)


class Plain:
    """Kernels that compute as torch does, and count their calls."""

    def __init__(self) -> None:
        self.norms, self.activated, self.gates = 0, 0, 0

    def group_norm(self, x, groups, weight, bias, eps, *, silu):
        self.norms += 1
        self.activated += silu
        out = F.group_norm(x, groups, weight, bias, eps)
        return F.silu(out) if silu else out

    def gated(self, x):
        self.gates += 1
        value, gate = x.chunk(2, dim=-1)
        return value * F.gelu(gate)


@pytest.fixture(scope="module")
def hub():
    torch.manual_seed(0)
    model = latent(use_ema=False).eval().requires_grad_(False)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model


def predict(hub) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 8, 8, generator=numbers)
    unet = hub.model.diffusion_model
    context = torch.randn(2, 5, unet.factory.context_dim, generator=numbers)
    return unet(x, torch.full((2,), 300), context)


def decode(hub) -> torch.Tensor:
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    return hub.decode_first_stage(z)


def norms_of(part: nn.Module) -> int:
    return sum(type(m) in (nn.GroupNorm, GroupNorm32) for m in part.modules())


def state(part: nn.Module) -> list:
    """Return all that could tell that something was attached."""
    own = [sorted(vars(m)) for m in part.modules()]
    return own + [(k, v.stride(), v.data_ptr() if v.ndim < 4 else 0) for k, v in named(part)]


def named(part: nn.Module) -> list[tuple[str, torch.Tensor]]:
    return list(part.state_dict().items())


def test_fused_norms_and_gates_of_a_unet_give_its_numbers(hub):
    kernels, unet = Plain(), hub.model.diffusion_model
    with torch.no_grad():
        plain = predict(hub)
        undo = fuse(hub.model, kernels, on=HERE)
        try:
            assert torch.equal(predict(hub), plain)
        finally:
            undo()
    blocks = sum(type(m) is ResBlock for m in unet.modules())
    assert kernels.norms == norms_of(unet)
    assert kernels.activated == 2 * blocks + 1  # both norms of each, and the head's
    assert kernels.gates > 0


def test_fused_norms_of_a_decoder_give_its_numbers(hub):
    kernels = Plain()
    with torch.no_grad():
        plain = decode(hub)
        undo = fuse(hub.first_stage_model, kernels, on=HERE)
        try:
            assert torch.equal(decode(hub), plain)
        finally:
            undo()
    assert kernels.norms == norms_of(hub.first_stage_model.decoder)
    attention = sum(hasattr(m, "attend") for m in hub.first_stage_model.decoder.modules())
    assert kernels.activated == kernels.norms - attention


def test_what_was_attached_leaves_no_trace(hub):
    before, weights = state(hub), {key: value.clone() for key, value in named(hub)}
    for part in (hub.model, hub.first_stage_model):
        undo_layout, undo_kernels = channels_last(part), fuse(part, Plain(), on=HERE)
        assert state(hub) != before
        undo_kernels()
        undo_layout()
    assert state(hub) == before
    assert all(torch.equal(value, weights[key]) for key, value in named(hub))


def test_keys_stay_while_kernels_are_attached(hub):
    keys = list(hub.state_dict())
    undo = fuse(hub.model, Plain(), on=HERE)
    assert list(hub.state_dict()) == keys
    undo()


def test_layers_compute_as_ever_where_gradients_flow_and_on_other_devices(hub):
    kernels = Plain()
    for on, grad in ((HERE, True), (("cuda",), False)):
        undo = fuse(hub.model, kernels, on=on)
        with torch.set_grad_enabled(grad):
            assert torch.equal(predict(hub), predict(hub))
        undo()
    assert kernels.norms == kernels.gates == 0


def test_layers_of_a_subclass_or_with_a_listener_are_left_alone():
    own, heard = type("Own", (nn.GroupNorm,), {})(2, 4), nn.GroupNorm(2, 4)
    heard.register_forward_hook(lambda *_: None)
    part = nn.Sequential(own, heard)
    undo = fuse(part, Plain(), on=HERE)
    assert "forward" not in vars(own) and "forward" not in vars(heard)
    undo()


def test_maps_stay_channels_last_from_end_to_end(hub):
    unet, seen = hub.model.diffusion_model, []
    undo = channels_last(hub.model)

    def note(module, inputs):  # noqa: ARG001
        seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))

    convolutions = [m for m in unet.modules() if isinstance(m, nn.Conv2d)]
    hooks = [m.register_forward_pre_hook(note) for m in convolutions]
    with torch.no_grad():
        predict(hub)
    for hook in hooks:
        hook.remove()
    undo()
    assert sum(seen[1:]) == len(convolutions) - 1  # all but the first one's


def test_a_channels_last_model_draws_what_it_drew(hub):
    with torch.no_grad():
        plain = predict(hub)
        undo = channels_last(hub.model)
        laid_out = predict(hub)
        undo()
    assert (laid_out - plain).abs().max() <= 1e-5 * plain.abs().max()
