"""On a CUDA device: kernels beside the plain layers, recorded steps beside the model's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from small_hubs import latent

from ldm.kernels.card import prepared_for_card, triton_kernels
from ldm.kernels.division import division_on
from ldm.kernels.head_width import NAMED, ByHeadWidth
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_processors import eager
from ldm.settings.samplers import SAMPLERS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
TOLERANCE = {torch.float32: 1e-5, torch.float16: 4e-3}
PLAIN = {"kernels": False, "attention": "torch", "graphs": False}


@pytest.fixture(scope="module")
def hub():
    torch.manual_seed(0)
    model = latent(use_ema=False).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.to("cuda")


def walk(hub, seed: int = 0, name: str = "ddim", steps: int = 5) -> torch.Tensor:
    sampler = make_sampler(name, hub)
    sampler.make_schedule(steps, verbose=False)
    numbers = torch.Generator().manual_seed(seed)
    width = hub.model.diffusion_model.factory.context_dim
    x, cond, uncond = (
        torch.randn(shape, generator=numbers).cuda()
        for shape in ((2, 4, 8, 8), (2, 5, width), (2, 5, width))
    )
    torch.manual_seed(0)
    options = {"unconditional_guidance_scale": 3.0, "unconditional_conditioning": uncond}
    return list(sampler.walk(x, cond, **options))[-1].x


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("channels", [320, 640, 960])
def test_group_norm_with_silu_is_the_plain_layers(dtype, channels):
    x = torch.randn(2, channels, 33, 31, device="cuda", dtype=dtype)
    weight, bias = torch.randn(2, channels, device="cuda", dtype=dtype)
    out = triton_kernels().group_norm(x, 32, weight, bias, 1e-5, silu=True)
    wanted = F.silu(F.group_norm(x.double(), 32, weight.double(), bias.double(), 1e-5))
    assert (out - wanted).abs().max() <= TOLERANCE[dtype] * wanted.abs().max()


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_gate_is_the_plain_one(dtype):
    x = torch.randn(3, 77, 2560, device="cuda", dtype=dtype)
    value, gate = x.double().chunk(2, dim=-1)
    wanted = value * F.gelu(gate)
    assert (triton_kernels().gated(x) - wanted).abs().max() <= TOLERANCE[dtype] * wanted.abs().max()


@pytest.mark.parametrize("first", [None, *NAMED])
@pytest.mark.parametrize("d", [40, 80, 160])
def test_every_kernel_of_attention_gives_its_numbers(first, d):
    q, k, v = torch.randn(3, 1, 8, 256, d, device="cuda", dtype=torch.float16)
    capability = torch.cuda.get_device_capability()[0]
    out = ByHeadWidth(capability, first)(q, k, v, mask=None, scale=d**-0.5)
    wanted = eager(q.double(), k.double(), v.double(), mask=None, scale=d**-0.5)
    assert (out - wanted).abs().max() < 4e-3


@pytest.mark.parametrize(
    ("name", "half"),
    [*((name, False) for name in SAMPLERS), ("ddim", True), ("plms", True), ("dpmpp_2m", True)],
)
def test_recorded_steps_are_the_models_own_to_the_bit(hub, name, half):
    steps = 20 if name == "restart" else 8  # fewer are Heun's
    with torch.autocast("cuda", torch.float16, enabled=half):
        plain = [walk(hub, seed, name, steps) for seed in (0, 1)]
        with prepared_for_card(hub, torch.device("cuda"), **{**PLAIN, "graphs": True}):
            recorded = [walk(hub, seed, name, steps) for seed in (0, 1)]
            assert len(hub.step_graphs._recorded) >= 2  # the model's call, and whole steps
    assert all(map(torch.equal, recorded, plain))
    assert not hasattr(hub, "step_graphs")


def test_it_is_known_how_the_device_divides():
    assert division_on(torch.device("cuda")) is not None


def test_recorded_steps_under_autocast_outlive_it(hub):
    with torch.autocast("cuda", torch.float16):
        plain = walk(hub)
    with prepared_for_card(hub, torch.device("cuda"), **{**PLAIN, "graphs": True}):
        for _ in range(2):
            with torch.autocast("cuda", torch.float16):
                recorded = walk(hub)
            torch.empty(2**24, device="cuda").fill_(float("nan"))  # over what was freed
            assert (recorded - plain).abs().max() <= 1e-3 * plain.abs().max()


def test_a_prepared_model_draws_what_it_drew(hub):
    plain = walk(hub)
    chosen = {"kernels": True, "attention": "auto", "graphs": True}
    with prepared_for_card(hub, torch.device("cuda"), **chosen):
        prepared = walk(hub)
    assert (prepared - plain).abs().max() <= 1e-3 * plain.abs().max()
    assert torch.equal(walk(hub), plain)
