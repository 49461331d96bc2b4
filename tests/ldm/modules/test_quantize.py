"""The codebook: nearest entries, straight-through gradients, other names for indices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ldm.errors import UserError
from ldm.modules import quantize
from ldm.modules.quantize import VectorQuantizer2


def make(**options) -> VectorQuantizer2:
    torch.manual_seed(0)
    made = VectorQuantizer2(16, 4, beta=0.25, **options)
    torch.nn.init.normal_(made.embedding.weight)
    return made


@pytest.fixture
def used(tmp_path):
    path = tmp_path / "used.npy"
    np.save(path, np.array([3, 5, 9, 14]))
    return path


@pytest.fixture
def z():
    return torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(1))


def test_every_latent_becomes_its_nearest_entry(z):
    quantizer = make()
    entries, _, (_, _, indices) = quantizer(z)
    tokens = z.movedim(1, -1).reshape(-1, 4)
    expected = torch.cdist(tokens, quantizer.embedding.weight).argmin(1)
    assert torch.equal(indices, expected)
    assert torch.allclose(entries, quantizer.get_codebook_entry(indices, (2, 5, 3, 4)), atol=1e-6)


def test_the_gradient_passes_straight_through(z):
    z.requires_grad_(True)
    weight = torch.randn_like(z)
    (make()(z)[0] * weight).sum().backward()
    assert torch.equal(z.grad, weight)


def test_legacy_weighs_the_codebook_s_term_and_not_the_encoder_s(z):
    def gradients(legacy: bool):
        quantizer, latents = make(legacy=legacy), z.clone().requires_grad_(True)
        quantizer(latents)[1].backward()
        return latents.grad, quantizer.embedding.weight.grad

    (encoder, codebook), (encoder_1711, codebook_1711) = gradients(True), gradients(False)
    torch.testing.assert_close(encoder, 4 * encoder_1711)
    torch.testing.assert_close(codebook_1711, 4 * codebook)


def test_a_short_table_of_distances_finds_the_same_entries(z, monkeypatch):
    whole = make()(z)[2][2]
    monkeypatch.setattr(quantize, "TABLE", 40)
    assert torch.equal(make()(z)[2][2], whole)


def test_entries_are_told_apart_in_float32_under_autocast():
    quantizer = VectorQuantizer2(2, 4, beta=0.25)
    quantizer.embedding.weight.data = torch.tensor([[1.0] * 4, [1.001] * 4])
    z = torch.full((1, 4, 1, 1), 1.002)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert quantizer(z)[2][2].item() == 1


def test_indices_are_flat_or_laid_out(z):
    assert make()(z)[2][2].shape == (30,)
    laid_out = make(sane_index_shape=True)(z)[2][2]
    assert laid_out.shape == (2, 5, 3)
    assert torch.equal(laid_out.flatten(), make()(z)[2][2])


def test_remapping_names_entries_by_their_place_and_back(used, z):
    quantizer = make(remap=used)
    entries = torch.tensor([[3, 14], [9, 5]])
    places = quantizer.remap_to_used(entries)
    assert places.tolist() == [[0, 3], [2, 1]]
    assert torch.equal(quantizer.unmap_to_all(places), entries)
    assert quantizer(z)[2][2].shape == (30, 1)
    assert "used" in quantizer.state_dict()


@pytest.mark.parametrize(("unknown", "expected", "back"), [("extra", 4, 3), (2, 2, 9)])
def test_an_entry_out_of_use_becomes_the_unknown_symbol(used, unknown, expected, back):
    quantizer = make(remap=used, unknown_index=unknown)
    places = quantizer.remap_to_used(torch.tensor([[0, 5]]))
    assert places.tolist() == [[expected, 1]]
    assert quantizer.unmap_to_all(places).tolist() == [[back, 5]]
    assert places.tolist() == [[expected, 1]], "the caller's indices were changed"


def test_a_random_symbol_is_one_of_those_in_use(used):
    places = make(remap=used).remap_to_used(torch.zeros(8, 50, dtype=torch.long))
    assert set(places.flatten().tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("content", [None, [[1, 2]], [0.5], [16], [-1], []])
def test_a_wrong_remap_is_one_line(tmp_path, content):
    path = tmp_path / "wrong.npy"
    if content is not None:
        np.save(path, np.array(content))
    with pytest.raises(UserError, match="remap .*wrong.npy.* expected"):
        make(remap=path)


def test_a_wrong_unknown_index_is_refused(used):
    with pytest.raises(UserError, match="'extra' or an integer"):
        make(remap=used, unknown_index="last")


def test_latents_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"\(B, 4, h, w\)"):
        make()(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match="temp"):
        make()(torch.zeros(1, 4, 2, 2), temp=0.5)


OPTIONS = [
    {},
    {"legacy": False},
    {"sane_index_shape": True},
    {"remap": True},
    {"remap": True, "unknown_index": "extra", "sane_index_shape": True},
    {"remap": True, "unknown_index": 1},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_computes_what_taming_s_class_computes(options, used, z):
    taming = pytest.importorskip("taming.modules.vqvae.quantize")
    options = {**options, "remap": str(used)} if "remap" in options else options
    ours, theirs = make(**options), taming.VectorQuantizer2(16, 4, beta=0.25, **options)
    theirs.load_state_dict(ours.state_dict())
    results = []
    for quantizer in (ours, theirs):
        latents = z.clone().requires_grad_(True)
        torch.manual_seed(3)  # of the symbols for unknown entries
        entries, loss, (_, _, indices) = quantizer(latents)
        (loss + (entries * torch.arange(4.0)[:, None, None]).sum()).backward()
        found = quantizer.get_codebook_entry(indices.clone(), (2, 5, 3, 4))
        gradients = (latents.grad, quantizer.embedding.weight.grad)
        results.append((entries.detach(), loss.detach(), indices, found.detach(), *gradients))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)
