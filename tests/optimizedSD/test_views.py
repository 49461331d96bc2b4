"""The fork's modules are views: the same numbers, keys and samplers as the modules of ``ldm``."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from golden_keys import V1, recorded_keys
from peak_bytes import PeakBytes
from tiny_model import CONFIG

from ldm.checkpoint.diffusers import keymaps
from ldm.config import load_config
from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.rng import PerImageNoise
from ldm.util import instantiate_from_config
from optimizedSD import ddpm
from optimizedSD.ddpm import CondStage, FirstStage, UNet
from optimizedSD.openaimodelSplit import UNetModelDecode, UNetModelEncode

ROOT = Path(__file__).resolve().parents[2]
MODEL = CONFIG["model"]["params"]
NETWORK = MODEL["unet_config"]["params"]
PLAIN = {**NETWORK, "use_spatial_transformer": False, "context_dim": None}
FORMS = {
    "tokens": NETWORK,
    "class labels": {**PLAIN, "num_classes": 5},
    "codebook ids": {**PLAIN, "n_embed": 7},
    "half precision": {**NETWORK, "use_fp16": True},
}
CONDITIONED = {"unconditional_guidance_scale": 3.0, "verbose": False}


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """Give numbers to layers that begin at zero, so that every input counts."""
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return module.eval().requires_grad_(False)


def halves_of(whole: UNetModel, params: dict) -> tuple[UNetModelEncode, UNetModelDecode]:
    """Build both halves and fill them, strictly, from the whole network."""
    state = {f"model.diffusion_model.{name}": v for name, v in whole.state_dict().items()}
    split = keymaps.split_unet(state)
    halves = UNetModelEncode(**params), UNetModelDecode(**params)
    for half, prefix in zip(halves, ("model1.", "model2."), strict=True):
        prefix += "diffusion_model."
        own = {n.removeprefix(prefix): v for n, v in split.items() if n.startswith(prefix)}
        half.load_state_dict(own, strict=True)
    return halves


@pytest.fixture(scope="module")
def hub():
    torch.manual_seed(0)
    return stirred(instantiate_from_config(CONFIG["model"]))


@pytest.fixture
def view(hub) -> UNet:
    """The hub's UNet in two halves, all rows at a time."""
    encode, decode = (
        {"target": f"optimizedSD.openaimodelSplit.{name}", "params": NETWORK}
        for name in ("UNetModelEncode", "UNetModelDecode")
    )
    schedule = {name: MODEL[name] for name in ("linear_start", "linear_end", "timesteps")}
    unet = UNet(encode, decode, **schedule, unet_bs=None).eval().requires_grad_(False)
    wanted = unet.state_dict()
    split = keymaps.split_unet(hub.state_dict())
    unet.load_state_dict({n: v for n, v in split.items() if n in wanted}, strict=True)
    return unet


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_both_halves_are_the_network_bit_for_bit(form):
    params = FORMS[form]
    torch.manual_seed(0)
    whole = stirred(UNetModel(**params))
    encode, decode = halves_of(whole, params)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([7, 900])
    context = torch.randn(2, 5, 32) if params["context_dim"] else None
    y = torch.tensor([1, 4]) if "num_classes" in params else None
    h, emb, hs = encode(x, t, context, y)
    kept = list(hs)
    out = decode(h, emb, whole.dtype, hs, context)
    assert torch.equal(out, whole(x, t, context, y))
    assert len(hs) == len(kept) and all(a is b for a, b in zip(hs, kept, strict=True))
    assert decode(h, emb, torch.float64, hs, context).dtype == torch.float64


@pytest.mark.parametrize("half", [UNetModelEncode, UNetModelDecode])
def test_a_half_takes_no_memory_for_the_other(half):
    with PeakBytes() as held:
        module = half(**NETWORK)
    own = sum(parameter.nbytes for parameter in module.parameters())
    whole = sum(parameter.nbytes for parameter in UNetModel(**NETWORK).parameters())
    assert own < 0.7 * whole and held.peak["cpu"] < 1.02 * own
    assert not any(parameter.is_meta for parameter in module.parameters())


def test_the_view_predicts_as_the_hub_does_bit_for_bit(hub, view):
    x, t, cond = torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999]), torch.randn(3, 77, 32)
    expected = hub.apply_model(x, t, cond)
    for given in (cond, [cond], {"c_crossattn": [cond]}):
        assert torch.equal(view.apply_model(x, t, given), expected)


def test_rows_at_a_time_are_those_rows_alone(hub, view):
    x, t, cond = torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999]), torch.randn(3, 77, 32)
    view.unet_bs = 1
    alone = [hub.apply_model(x[i : i + 1], t[i : i + 1], cond[i : i + 1]) for i in range(3)]
    assert torch.equal(view.apply_model(x, t, cond), torch.cat(alone))


@pytest.mark.parametrize("sampler", ["ddim", "plms", "euler_a"])
def test_the_views_sampler_is_the_one_sampler_with_a_seed_for_each_picture(hub, view, sampler):
    cond, uncond = torch.randn(2, 77, 32), torch.randn(2, 77, 32)
    options = {**CONDITIONED, "unconditional_conditioning": uncond}
    found = view.sample(3, cond, shape=(2, 4, 8, 8), seed=11, sampler=sampler, **options)
    walker = make_sampler(sampler, hub, noise=PerImageNoise([11, 12]))
    assert torch.equal(found, walker.sample(3, 2, (4, 8, 8), cond, **options)[0])


def test_a_picture_of_a_batch_is_the_picture_that_its_seed_draws_alone(view):
    view.unet_bs = 1
    cond, uncond = torch.randn(2, 77, 32), torch.randn(2, 77, 32)

    def draw(rows: slice, seed: int) -> torch.Tensor:
        options = {**CONDITIONED, "unconditional_conditioning": uncond[rows]}
        shape = (cond[rows].shape[0], 4, 8, 8)
        return view.sample(2, cond[rows], shape=shape, seed=seed, **options)

    assert torch.equal(draw(slice(0, 2), 5)[1:], draw(slice(1, 2), 6))


def test_what_the_views_sampler_does_not_do_is_refused(view):
    cond, shape = torch.zeros(1, 77, 32), (1, 4, 8, 8)
    with pytest.raises(UserError, match="x0 given without a mask"):
        view.sample(2, cond, shape=shape, x0=torch.zeros(shape))
    with pytest.raises(UserError, match="did you mean 'plms'"):
        view.sample(2, cond, shape=shape, sampler="plm")


@pytest.fixture
def moves(view, monkeypatch) -> list[str]:
    """Pretend that the halves live elsewhere; return the list of their journeys."""
    home, log = torch.device("meta"), []
    names = {view.model1: "first", view.model2: "second"}
    places = dict.fromkeys(names, home)
    monkeypatch.setattr(ddpm, "_place", places.__getitem__)

    def journey(half):
        def to(device):
            places[half] = torch.device(device)
            log.append(f"{names[half]} {'home' if device == home else 'out'}")

        return to

    for half in names:
        monkeypatch.setattr(half, "to", journey(half))
    view.cdevice = "cpu"
    return log


@pytest.mark.parametrize("turbo", [False, True])
def test_a_half_is_on_the_device_for_its_turn_or_with_turbo_for_the_whole_walk(view, moves, turbo):
    view.turbo, view.unet_bs = turbo, 1
    view.sample(2, torch.zeros(2, 77, 32), shape=(2, 4, 8, 8), sampler="ddim", verbose=False)
    turns = ["first out", "first home", "second out", "second home"]
    assert moves == (
        ["first out", "second out", "second home", "first home"] if turbo else turns * 2
    )


@pytest.mark.parametrize("turbo", [False, True])
def test_halves_go_home_when_one_of_them_fails(view, moves, monkeypatch, turbo):
    def fail(*args):
        raise KeyboardInterrupt

    view.turbo = turbo
    monkeypatch.setattr(view.model2, "forward", fail)
    with pytest.raises(KeyboardInterrupt):
        view.sample(2, torch.zeros(1, 77, 32), shape=(1, 4, 8, 8), verbose=False)
    assert sorted(m for m in moves if "home" in m) == ["first home", "second home"]


def test_the_first_stage_view_encodes_and_decodes_as_the_hub_does(hub):
    view = FirstStage(MODEL["first_stage_config"], scale_factor=MODEL["scale_factor"])
    state = hub.state_dict()
    view.load_state_dict({n: v for n, v in state.items() if n in view.state_dict()}, strict=True)
    x, z = torch.rand(1, 3, 16, 16) * 2 - 1, torch.randn(1, 4, 8, 8)
    assert torch.equal(view.decode_first_stage(z), hub.decode_first_stage(z))
    latents = [
        m.get_first_stage_encoding(m.encode_first_stage(x), PerImageNoise([3])) for m in (view, hub)
    ]
    assert torch.equal(*latents)


def test_the_conditioners_view_encodes_as_the_hub_does(hub):
    view = CondStage(MODEL["cond_stage_config"])
    state = hub.state_dict()
    view.load_state_dict({n: v for n, v in state.items() if n in view.state_dict()}, strict=True)
    words = ["a cat", ""]
    assert torch.equal(view.get_learned_conditioning(words), hub.get_learned_conditioning(words))


def test_the_shipped_models_have_exactly_a_v1_checkpoints_keys():
    config = load_config(ROOT / "optimizedSD/v1-inference.yaml")
    with torch.device("meta"):
        parts = [instantiate_from_config(config[name]) for name in config]
    found = {name: list(v.shape) for part in parts for name, v in part.state_dict().items()}
    official = recorded_keys()[V1]
    assert found == keymaps.split_unet(official)
