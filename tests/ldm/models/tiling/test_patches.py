"""Blended patches."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from tiny_model import CONFIG

from ldm.errors import UserError
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.tiling.patches import SplitInput, blend

SPLIT = {"ks": (8, 8), "stride": (4, 6), "vqf": 2}


def hub(**changes) -> LatentDiffusion:
    torch.manual_seed(0)
    params = {**CONFIG["model"]["params"], "conditioning_key": "crossattn", **changes}
    return LatentDiffusion(**params).eval()


@pytest.mark.parametrize("size", [(8, 8), (16, 20), (15, 9), (5, 30)])
@pytest.mark.parametrize("tie_braker", [False, True])
def test_what_treats_every_element_alone_gives_the_same_in_patches(size, tie_braker):
    x = torch.randn(2, 3, *size)
    split = SplitInput.of({**SPLIT, "tie_braker": tie_braker})
    assert torch.allclose(blend(lambda patch, where: patch.square(), x, split), x**2, atol=1e-6)


@pytest.mark.parametrize("scale", [Fraction(2), Fraction(1, 2)])
def test_sides_grow_and_shrink_with_the_scale(scale):
    x = torch.randn(1, 2, 16, 20)

    def resize(patch, where):
        return torch.nn.functional.interpolate(patch, scale_factor=float(scale))

    out = blend(resize, x, SplitInput.of(SPLIT), scale)
    assert out.shape == (1, 2, int(16 * scale), int(20 * scale))
    assert torch.allclose(out, resize(x, None), atol=1e-6)


def test_the_middle_of_a_patch_outweighs_its_edge():
    x = torch.zeros(1, 1, 8, 12)
    split = SplitInput.of({"ks": (8, 8), "stride": (8, 4)})
    marks = iter([0.0, 1.0])
    out = blend(lambda patch, where: torch.full_like(patch, next(marks)), x, split)[0, 0, 4]
    assert (out[:4] == 0).all() and (out[8:] == 1).all()
    assert 0 < out[4] < 0.5 < out[7] < 1 and (out[4:8].diff() > 0).all()


@torch.no_grad()
def test_the_hub_denoises_in_patches_and_cuts_maps_alike():
    unet = {**CONFIG["model"]["params"]["unet_config"]["params"], "in_channels": 8}
    config = {**CONFIG["model"]["params"]["unet_config"], "params": unet}
    model = hub(conditioning_key="hybrid", unet_config=config)
    torch.nn.init.normal_(model.model.diffusion_model.out[2].weight, std=0.1)
    x, t = torch.randn(2, 4, 8, 16), torch.tensor([10, 900])
    text = model.get_learned_conditioning(["a", "b"])
    cond = {"c_concat": [torch.randn(2, 4, 8, 16)], "c_crossattn": [text]}
    halves = [
        model.apply_model(x[..., s], t, {**cond, "c_concat": [cond["c_concat"][0][..., s]]})
        for s in (slice(0, 8), slice(8, 16))
    ]
    model.split_input_params = {"ks": (8, 8), "stride": (8, 8)}
    assert torch.allclose(model.apply_model(x, t, cond), torch.cat(halves, -1), atol=1e-5)


@torch.no_grad()
def test_the_autoencoder_works_in_patches_only_when_asked():
    model = hub()
    x = torch.randn(1, 3, 32, 32)
    whole = model.encode_first_stage(x)
    model.split_input_params = {"ks": (16, 16), "stride": (8, 8), "vqf": 2}
    assert torch.equal(model.encode_first_stage(x).mean, whole.mean)
    model.split_input_params = {**model.split_input_params, "patch_distributed_vq": True}
    blended = model.encode_first_stage(x)
    assert blended.mean.shape == whole.mean.shape and not torch.equal(blended.mean, whole.mean)
    z = model.get_first_stage_encoding(blended)
    assert model.decode_first_stage(z).shape == x.shape


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"ks": (8, 8)}, "needs ks and stride"),
        ({**SPLIT, "overlap": 3}, "overlap"),
        ({"ks": (8, 8), "stride": (9, 4)}, "uncovered"),
        ({**SPLIT, "clip_min_weight": 0.0}, "uncovered"),
    ],
)
def test_a_wrong_way_to_cut_says_what_is_expected(params, part):
    with pytest.raises(UserError, match=part):
        SplitInput.of(params)


def test_sizes_that_do_not_scale_to_whole_numbers_are_refused():
    with pytest.raises(UserError, match="multiples of 2"):
        blend(lambda p, w: p, torch.zeros(1, 1, 15, 16), SplitInput.of(SPLIT), Fraction(1, 2))
