"""Strips give the picture that the autoencoder makes in one piece."""

from __future__ import annotations

import pytest
import torch
from peak_bytes import PeakBytes
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ldm.errors import UserError
from ldm.models.autoencoder import AutoencoderKL, IdentityFirstStage
from ldm.models.tiling import strips, tiled
from ldm.models.tiling.tiled import decode_in_tiles, encode_in_tiles
from ldm.modules.diffusionmodules.coder_layers import coder_layers

DDCONFIG = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [8],
    "dropout": 0.0,
}
FORMS = {
    "attention in a level": {},
    "linear attention": {"attn_type": "linear"},
    "no attention": {"attn_type": "none"},
    "tanh at the end": {"tanh_out": True},
    "the last map before the end": {"give_pre_end": True},
    "resampling without convolution": {"resamp_with_conv": False},
    "one level": {"ch_mult": [1], "attn_resolutions": []},
}
ROWS = [None, 1, 3]
LATENTS = [(2, 4, 7, 5), (1, 4, 2, 1)]


def make(dtype: torch.dtype = torch.float64, **changes) -> AutoencoderKL:
    torch.manual_seed(0)
    config = {**DDCONFIG, **changes}
    return AutoencoderKL(config, {"target": "torch.nn.Identity"}, embed_dim=4).eval().to(dtype)


def convolutions(model: AutoencoderKL) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_strips_decode_to_the_whole_picture_whatever_their_height(form):
    model = make(**FORMS[form])
    for shape in LATENTS:
        z = torch.randn(shape, dtype=torch.float64)
        whole = model.decode(z)
        for rows in ROWS:
            picture = decode_in_tiles(model, z, rows=rows)
            assert picture.stride() == whole.stride()
            torch.testing.assert_close(picture, whole, rtol=0, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_strips_encode_to_the_whole_distribution_odd_sides_included(form):
    model = make(**FORMS[form])
    for sides in [(24, 20), (21, 19)]:
        x = torch.randn(1, 3, *sides, dtype=torch.float64)
        whole = model.encode(x)
        for rows in ROWS:
            found = encode_in_tiles(model, x, rows=rows)
            torch.testing.assert_close(found.parameters, whole.parameters, rtol=0, atol=1e-11)


@torch.no_grad()
def test_single_precision_agrees_to_rounding():
    model, z = make(torch.float32), torch.randn(1, 4, 11, 6)
    # About 5e-6 here; twenty layers of sums in another order.
    torch.testing.assert_close(
        decode_in_tiles(model, z, rows=3), model.decode(z), rtol=0, atol=3e-5
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_as_near_to_the_truth_as_the_whole_decode_is(dtype):
    """Half roundings grow layer by layer, so two orders of summing differ by as much as each errs.

    Strips whose norms were rounded to halves would be farther off.
    """
    exact, half, z = make(torch.float32), make(dtype), torch.randn(1, 4, 16, 12)
    truth = exact.decode(z)
    whole_error = (half.decode(z.to(dtype)).float() - truth).abs()
    found = decode_in_tiles(half, z.to(dtype), rows=4)
    assert found.dtype == dtype
    error = (found.float() - truth).abs()
    assert error.mean() < 1.1 * whole_error.mean()
    assert error.max() < 1.5 * whole_error.max()


@torch.no_grad()
def test_a_gradient_of_brightness_keeps_its_tone_where_norms_of_tiles_would_lose_it():
    model = make(torch.float32)
    z = torch.linspace(-3, 3, 24)[:, None].expand(1, 4, 24, 12) + 0.1 * torch.randn(1, 4, 24, 12)
    whole = model.decode(z)
    naive = torch.cat([model.decode(part) for part in z.split(4, dim=2)], dim=2)

    def tone_error(picture: torch.Tensor) -> float:
        return (picture - whole).mean(dim=(1, 3)).abs().max().item()

    assert tone_error(naive) > 0.1
    assert tone_error(decode_in_tiles(model, z, rows=4)) < 1e-4


@pytest.mark.parametrize("rows", [2, 4, 6])
@torch.no_grad()
def test_no_convolution_sees_more_than_a_strip_and_its_halo(rows):
    model, seen = make(attn_resolutions=[]), []
    for conv in convolutions(model):
        if conv is not model.post_quant_conv:
            conv.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[2]))
    decode_in_tiles(model, torch.randn(1, 4, 24, 4, dtype=torch.float64), rows=rows)
    # A row a side, or two where the halo was doubled with the strip.
    assert max(seen) == rows + 4
    assert sorted(set(seen))[-2] <= rows + 3


@torch.no_grad()
def test_what_hooks_do_to_a_convolution_they_do_in_strips_too():
    model, z = make(), torch.randn(1, 4, 8, 6, dtype=torch.float64)
    plain = model.decode(z)
    for conv in convolutions(model):
        conv.register_forward_hook(lambda _, given, out: out * 1.1)
    hooked = model.decode(z)
    assert not torch.allclose(hooked, plain, atol=1e-3)
    torch.testing.assert_close(decode_in_tiles(model, z, rows=3), hooked, rtol=0, atol=1e-11)


@torch.no_grad()
def test_attention_never_asks_for_a_table_of_all_pairs_of_pixels(monkeypatch):
    model, z = make(), torch.randn(1, 4, 16, 8, dtype=torch.float64)
    whole, tables = model.decode(z), []
    for layer in coder_layers(model.decoder):
        if hasattr(layer, "processor"):

            def spy(q, k, v, *, mask, scale, plain=layer.processor):
                tables.append(q.shape[2] * k.shape[2])
                return plain(q, k, v, mask=mask, scale=scale)

            monkeypatch.setattr(layer, "processor", spy)
    monkeypatch.setattr(tiled, "TABLE", 2**13)
    torch.testing.assert_close(decode_in_tiles(model, z), whole, rtol=0, atol=1e-11)
    assert max(tables) <= 2**13 < (16 * 8) ** 2


def peak_of_a_pretended_accelerator(decode, height: int) -> dict[str, int]:
    """Decode latents of ``height`` x 8 with tensors that have shapes and a device, no numbers."""
    accelerator = "cuda:0"
    with FakeTensorMode(), torch.device(accelerator):
        model = AutoencoderKL(
            {**DDCONFIG, "attn_type": "none", "ch_mult": [1, 2]},
            {"target": "torch.nn.Identity"},
            embed_dim=4,
        ).eval()
        z = torch.empty(1, 4, height, 8)
        with PeakBytes() as bytes_of, torch.no_grad():
            picture = decode(model, z)
        assert picture.device == torch.device(accelerator)
        assert picture.shape == (1, 3, 2 * height, 16)
    return bytes_of.peak


def test_an_accelerator_holds_a_few_strips_of_a_picture_that_waits_on_the_host(monkeypatch):
    monkeypatch.setattr(strips, "STRIP", 2**12)
    height = 64
    whole = peak_of_a_pretended_accelerator(lambda model, z: model.decode(z), height)
    tiled_peak = peak_of_a_pretended_accelerator(decode_in_tiles, height)
    picture = 4 * 3 * 16 * 2 * height
    # In and out of a convolution, what it reads, its shortcut, the sum; the picture and its copy.
    assert tiled_peak["cuda"] <= 8 * 4 * strips.STRIP + 2 * picture < whole["cuda"] / 4
    # What waits: a map of 64 channels at the picture's size, and two of 32 that come of it.
    assert tiled_peak["cpu"] <= (64 + 32 + 32) / 3 * picture


@pytest.mark.parametrize("work", [decode_in_tiles, encode_in_tiles])
def test_what_cannot_be_tiled_is_refused_in_one_line(work):
    with pytest.raises(UserError, match=r"IdentityFirstStage given; only an AutoencoderKL can"):
        work(IdentityFirstStage(), torch.zeros(1, 3, 8, 8))
    with pytest.raises(UserError, match="0 rows given; expected 1 or more"):
        work(make(), torch.zeros(1, 4, 8, 8), rows=0)
