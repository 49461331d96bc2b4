"""Every kind of change, recomputed by the formulas that LyCORIS publishes."""

from __future__ import annotations

import lora_files
import pytest
import torch
from parity.peers import relative_error

from ldm.adapters.lora import read_lora
from ldm.adapters.lora.places import Places

ALPHA, RANK = 1.0, 2
LINEAR = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
CONVOLUTION = "lora_unet_mid_block_resnets_0_conv1"
STRIDED = "lora_unet_down_blocks_0_downsamplers_0_conv"
KINDS = {
    LINEAR: ("locon", "loha", "lokr", "lokr-low", "full", "ia3", "ia3-input"),
    CONVOLUTION: (
        *("locon", "locon-tucker", "loha", "loha-tucker", "lokr", "lokr-low", "lokr-tucker"),
        *("full", "ia3", "ia3-input"),
    ),
    STRIDED: ("locon", "locon-tucker", "loha-tucker"),
}


def tucker(core, a, b):
    """LyCORIS's rebuild_tucker, written as a sum over the core's entries."""
    rank = len(core)
    terms = [
        core[i, j][None, None] * a[i][:, None, None, None] * b[j][None, :, None, None]
        for i in range(rank)
        for j in range(rank)
    ]
    return sum(terms)


def expected_change(kind, t, weight):
    """The change of a weight at strength 1."""
    scale = ALPHA / RANK
    if kind.startswith("locon"):
        up, down = t["lora_up.weight"].flatten(1), t["lora_down.weight"]
        if "lora_mid.weight" in t:
            return scale * tucker(t["lora_mid.weight"], up.T, down.flatten(1))
        return scale * sum(
            up[:, r].reshape(-1, *[1] * (weight.ndim - 1)) * down[r][None] for r in range(RANK)
        )
    if kind == "loha":
        first, second = (t[f"hada_w{n}_a"] @ t[f"hada_w{n}_b"] for n in (1, 2))
        return scale * (first * second).reshape(weight.shape)
    if kind == "loha-tucker":
        return scale * torch.mul(
            *(tucker(t[f"hada_t{n}"], t[f"hada_w{n}_a"], t[f"hada_w{n}_b"]) for n in (1, 2))
        )
    if kind.startswith("lokr"):
        return kronecker(kind, t, weight) * (1.0 if kind == "lokr" else scale)
    if kind == "full":
        return t["diff"]
    factors = t["weight"].flatten()
    return weight * (
        factors.reshape(1, -1, *[1] * (weight.ndim - 2))
        if kind == "ia3-input"
        else factors.reshape(-1, *[1] * (weight.ndim - 1))
    )


def kronecker(kind, t, weight):
    w1 = t["lokr_w1"] if "lokr_w1" in t else t["lokr_w1_a"] @ t["lokr_w1_b"]
    out, width = weight.shape[0] // 4, weight.shape[1] // 4
    if kind == "lokr-tucker":
        w2 = tucker(t["lokr_t2"], t["lokr_w2_a"], t["lokr_w2_b"])
    else:
        w2 = t["lokr_w2"] if "lokr_w2" in t else t["lokr_w2_a"] @ t["lokr_w2_b"]
    w2 = w2.reshape(out, width, *weight.shape[2:])
    made = torch.empty_like(weight)
    for i in range(4):
        for j in range(4):
            made[i * out : (i + 1) * out, j * width : (j + 1) * width] = w1[i, j] * w2
    return made


@pytest.fixture(scope="module")
def places(model):
    return {place.flat: place for place in Places(model)}


@pytest.fixture
def layer_and_file(places, tmp_path):
    """A function: name, kind and further tensors to the layer, its tensors and the file."""

    def make(name, kind, extra=None):
        layer = places[name].module
        tensors = lora_files.lycoris(layer, kind, RANK)
        whole = kind in ("lokr", "full", "ia3", "ia3-input")
        alpha = {} if whole else {"alpha": torch.tensor(ALPHA)}
        named = {f"{name}.{n}": v for n, v in (tensors | alpha | (extra or {})).items()}
        return layer, tensors, lora_files.save(named, tmp_path / "a.safetensors")

    return make


@torch.no_grad()
def changed(layer, path, model, x, merge):
    with read_lora(path).attach(model, 0.7, merge=merge):
        return layer(x), layer.weight.detach().clone()


@torch.no_grad()
def with_weight(layer, weight, bias, x):
    linear = isinstance(layer, torch.nn.Linear)
    if linear:
        return torch.nn.functional.linear(x, weight, bias)
    return torch.nn.functional.conv2d(x, weight, bias, layer.stride, layer.padding)


def inputs(layer):
    generator = torch.Generator().manual_seed(1)
    shape = (2, 5) if isinstance(layer, torch.nn.Linear) else (2,)
    sides = () if isinstance(layer, torch.nn.Linear) else (6, 6)
    return torch.randn(*shape, layer.weight.shape[1], *sides, generator=generator)


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, kinds in KINDS.items() for k in kinds])
def test_a_kind_computes_what_its_formula_says(name, kind, layer_and_file, model):
    layer, tensors, path = layer_and_file(name, kind)
    if kind == "full" and layer.bias is None:
        tensors.pop("diff_b")
    weight = layer.weight.detach() + 0.7 * expected_change(kind, tensors, layer.weight.detach())
    bias = layer.bias
    if kind == "full" and bias is not None:
        bias = bias.detach() + 0.7 * tensors["diff_b"]
    x = inputs(layer)
    live, untouched = changed(layer, path, model, x, merge=False)
    merged, found = changed(layer, path, model, x, merge=True)
    assert torch.equal(untouched, layer.weight)
    assert relative_error(found, weight) < 1e-6
    expected = with_weight(layer, weight, bias, x)
    assert relative_error(merged, expected) < 1e-6 and relative_error(live, expected) < 1e-6
    assert read_lora(path, model).report.modules == 1


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["locon", "loha"])
@pytest.mark.parametrize("name", [LINEAR, CONVOLUTION])
def test_dora_gives_rows_or_columns_their_lengths(name, kind, axis, layer_and_file, places, model):
    weight = places[name].module.weight.detach()
    shape = [1] * weight.ndim
    shape[axis] = weight.shape[axis]
    lengths = torch.rand(shape, generator=torch.Generator().manual_seed(2)) + 0.5
    layer, tensors, path = layer_and_file(name, kind, {"dora_scale": lengths})
    moved = weight + expected_change(kind, tensors, weight)
    others = [n for n in range(weight.ndim) if n != axis]
    whole = lengths * moved / moved.square().sum(others, keepdim=True).sqrt()
    expected = with_weight(layer, weight + 0.7 * (whole - weight), layer.bias, inputs(layer))
    for merge in (False, True):
        found, _ = changed(layer, path, model, inputs(layer), merge)
        assert relative_error(found, expected) < 2e-6
    assert read_lora(path).report.kind == "DoRA"


@pytest.mark.parametrize(
    "name", ["lora_unet_mid_block_resnets_0_norm1", "lora_te_text_model_final_layer_norm"]
)
def test_norms_are_changed_as_a_whole(name, places, model, tmp_path):
    layer = places[name].module
    generator = torch.Generator().manual_seed(3)
    change, bias = torch.randn(2, len(layer.weight), generator=generator)
    tensors = {f"{name}.w_norm": change, f"{name}.b_norm": bias}
    path = lora_files.save(tensors, tmp_path / "a.safetensors")
    x = torch.randn(2, 3, len(layer.weight), generator=generator)
    x = x if isinstance(layer, torch.nn.LayerNorm) else x.mT[..., None]
    found = [changed(layer, path, model, x, merge)[0] for merge in (False, True)]
    assert relative_error(*found) < 1e-6
    with torch.no_grad():
        assert relative_error(found[0], layer(x)) > 1e-2


def test_a_dora_sees_the_original_weight_beside_what_is_merged(
    layer_and_file, places, model, files
):
    weight = places[LINEAR].module.weight.detach()
    lengths = weight.norm(dim=1, keepdim=True) * 1.5
    layer, _, path = layer_and_file(LINEAR, "locon", {"dora_scale": lengths})
    x, found = inputs(layer), []
    for first, second in ((files[0], path), (path, files[0])):
        for merges in ((True, False), (False, True), (True, True)):
            with (
                read_lora(first).attach(model, merge=merges[0]),
                read_lora(second).attach(model, merge=merges[1]),
                torch.no_grad(),
            ):
                found.append(layer(x))
    assert all(relative_error(each, found[0]) < 2e-6 for each in found[1:])
