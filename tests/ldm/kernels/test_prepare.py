"""Prepared layers compute what plain ones do, and come back to them without a trace."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from narrow_models import narrow_config, narrow_model
from torch import nn

from ldm.kernels.element_type import computes_in
from ldm.kernels.prepare import is_available, lacking_memory, prepare
from ldm.modules.attention import GEGLU
from ldm.modules.attention_processors import AttentionLayer, sdpa
from ldm.modules.diffusionmodules import model as first_stage
from ldm.modules.diffusionmodules import unet_blocks
from ldm.wrapping import is_stood_in

pytestmark = pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")

LAYERS = {
    "3x3": (lambda: nn.Conv2d(32, 48, 3, padding=1), (2, 32, 9, 7)),
    "3x3 of stride 2": (lambda: nn.Conv2d(32, 32, 3, stride=2, padding=1), (1, 32, 8, 8)),
    "1x1": (lambda: nn.Conv2d(32, 20, 1), (2, 32, 5, 5)),
    "without bias": (lambda: nn.Conv2d(8, 24, 3, bias=False), (1, 8, 6, 6)),
    "a latent": (lambda: nn.Conv2d(32, 4, 3, padding=1), (2, 32, 8, 8)),
    "linear": (lambda: nn.Linear(32, 40), (2, 7, 32)),
    "linear without bias": (lambda: nn.Linear(32, 40, bias=False), (3, 32)),
    "GEGLU": (lambda: GEGLU(32, 64), (2, 9, 32)),
    "UNet's upsampling": (lambda: unet_blocks.Upsample(32, True), (2, 32, 5, 3)),
    "decoder's upsampling": (lambda: first_stage.Upsample(32), (1, 32, 4, 4)),
}


def made(name):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    return make().eval(), torch.randn(shape)


def apart(a, b):
    assert a.shape == b.shape
    return ((a - b).norm() / b.norm()).item()


@pytest.fixture
def unet():
    return narrow_model(narrow_config("v1")).model.diffusion_model.requires_grad_(False)


def inputs(rows=2, side=8):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, side, side, generator=generator)
    width = narrow_config("v1")["model"]["params"]["unet_config"]["params"]["context_dim"]
    return x, torch.full((rows,), 500), torch.randn(rows, 7, width, generator=generator)


@pytest.mark.parametrize("name", LAYERS)
def test_each_kind_of_layer_computes_what_the_plain_one_does(name):
    layer, x = made(name)
    with torch.no_grad():
        plain = layer(x)
        with prepare(layer) as kernels:
            first, again = layer(x), layer(x)
            assert kernels.packed_bytes > 0
        assert apart(first, plain) < 1e-6
        assert torch.equal(first, again)
        assert torch.equal(layer(x), plain)
    assert not any(is_stood_in(each, "forward") for each in layer.modules())
    assert kernels.packed_bytes == 0


@pytest.mark.parametrize("name", LAYERS)
def test_bfloat16_keeps_its_type_and_precision(name):
    layer, x = made(name)
    with torch.no_grad():
        exact = layer.bfloat16().float()(x.bfloat16().float())
        layer, x = layer.bfloat16(), x.bfloat16()
        plain = apart(layer(x).float(), exact)
        with prepare(layer):
            out = layer(x)
    assert out.dtype == torch.bfloat16
    assert apart(out.float(), exact) < max(2 * plain, 0.01)


def test_unet_predicts_the_same_in_every_size_and_number_of_rows(unet):
    with torch.no_grad():
        for shape in ((2, 8), (1, 8), (6, 16)):
            plain = unet(*inputs(*shape))
            with prepare(unet):
                out = unet(*inputs(*shape))
            assert apart(out, plain) < 1e-5
        with prepare(unet):
            results = [unet(*inputs(*shape)) for shape in ((6, 16), (1, 8))]
        assert apart(results[1], unet(*inputs(1, 8))) < 1e-5


def test_first_stage_and_text_encoder_compute_the_same():
    model = narrow_model(narrow_config("v1")).requires_grad_(False)
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        picture, text = model.decode_first_stage(z), model.get_learned_conditioning(["a fox"])
        moments = model.encode_first_stage(picture).parameters
        with prepare(model):
            assert apart(model.decode_first_stage(z), picture) < 1e-5
            assert apart(model.get_learned_conditioning(["a fox"]), text) < 1e-5
            assert apart(model.encode_first_stage(picture).parameters, moments) < 1e-5
        assert torch.equal(model.decode_first_stage(z), picture)


def test_what_leaves_a_network_is_contiguous_so_that_noise_like_it_is_the_same(unet):
    with torch.no_grad(), prepare(unet):
        assert unet(*inputs()).is_contiguous()


def test_keys_parameters_and_their_memory_are_untouched(unet):
    before = {name: (id(p), p.data_ptr(), p._version) for name, p in unet.named_parameters()}
    keys = list(unet.state_dict())
    with torch.no_grad(), prepare(unet):
        unet(*inputs())
        assert list(unet.state_dict()) == keys
        after = {name: (id(p), p.data_ptr(), p._version) for name, p in unet.named_parameters()}
    assert after == before


CHANGES = {
    "in place": lambda layer: layer.weight.mul_(2),
    "in inference mode": lambda layer: torch.inference_mode()(layer.weight.mul_)(2),
    "another parameter": lambda layer: setattr(
        layer, "weight", nn.Parameter(layer.weight * 2, requires_grad=False)
    ),
    "other data": lambda layer: setattr(layer.weight, "data", layer.weight.data * 2),
    "loaded": lambda layer: layer.load_state_dict(
        {name: value * 2 for name, value in layer.state_dict().items()}
    ),
    "there and back": lambda layer: (layer.double(), layer.weight.mul_(2), layer.float()),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["3x3", "linear", "GEGLU", "UNet's upsampling"])
def test_changed_weights_are_never_stale(name, change):
    layer, x = made(name)
    changed = next(each for each in layer.modules() if isinstance(each, nn.Conv2d | nn.Linear))
    with torch.no_grad(), prepare(layer) as kernels:
        before = layer(x)
        CHANGES[change](changed)
        out = layer(x)
        kernels.detach()
        assert apart(out, layer(x)) < 1e-6
        assert apart(out, before) > 0.01


def test_a_change_that_torch_does_not_count_is_seen_by_the_next_run():
    layer, x = made("linear")
    with torch.no_grad():
        kernels = prepare(layer)
        layer(x)
        kernels.detach()
        layer.weight.data.mul_(2)
        plain = layer(x)
        kernels.attach()
        assert apart(layer(x), plain) < 1e-6
        kernels.release()


class Doubled(nn.Linear):
    """A researcher's layer."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_subclasses_and_layers_with_a_forward_of_their_own_are_left_as_they_are():
    own = nn.Linear(4, 4)
    own.forward = lambda x: x + 1
    unusual = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    layers = nn.ModuleList([Doubled(4, 4), own, unusual, nn.Conv2d(4, 4, 1, padding="same")])
    with prepare(layers):
        assert not any(is_stood_in(layer, "forward") for layer in layers)


def test_attention_is_computed_in_blocks_but_where_somebody_chose_otherwise(unet):
    first, *others = (each for each in unet.modules() if isinstance(each, AttentionLayer))
    own = first.processor = partial(sdpa)
    with prepare(unet):
        assert first.processor is own
        assert others and all(is_stood_in(each, "processor") for each in others)
    assert first.processor is own and all(each.processor is sdpa for each in others)


@pytest.mark.parametrize(
    ("free", "fits"), [(1500, True), (1499, False), (1000, False), (None, True)]
)
def test_packed_copies_have_to_leave_half_of_their_size_to_a_run(free, fits, monkeypatch):
    monkeypatch.setattr("ldm.kernels.prepare.free_memory", lambda: free)
    assert (lacking_memory(1000) is None) == fits


def test_training_and_gradients_take_the_plain_way():
    layer, x = made("3x3")
    plain = layer(x)
    twin = copy.deepcopy(layer)
    twin(x).square().sum().backward()
    with prepare(layer) as kernels:
        assert torch.equal(layer(x), plain)  # the weight wants a gradient
        layer(x).square().sum().backward()
        layer.train()
        with torch.no_grad():
            assert torch.equal(layer(x), plain)
        assert kernels.packed_bytes == 0
    assert torch.equal(layer.weight.grad, twin.weight.grad)


IN_BFLOAT16 = pytest.mark.skipif(
    not computes_in(torch.bfloat16), reason="this processor multiplies no bfloat16"
)


@IN_BFLOAT16
@pytest.mark.parametrize("name", LAYERS)
def test_under_autocast_layers_compute_with_weights_packed_in_its_type(name):
    layer, x = made(name)
    with torch.no_grad():
        exact = layer(x)
        with torch.autocast("cpu", torch.bfloat16):
            plain = layer(x)
            with prepare(layer) as kernels:
                out = layer(x)
                count = sum(each.numel() for each in layer.parameters() if each.ndim > 1)
                assert kernels.packed_bytes == 2 * count
                assert apart(layer.bfloat16()(x), out) < 0.01  # of that type from the beginning
    assert out.dtype == plain.dtype == torch.bfloat16
    assert apart(out.float(), exact) < max(0.01, 1.5 * apart(plain.float(), exact))


@IN_BFLOAT16
def test_a_unet_under_autocast_computes_what_it_does_without_packed_weights(unet):
    x, t, context = inputs()
    with torch.no_grad():
        exact = unet(x, t, context)
        with torch.autocast("cpu", torch.bfloat16):
            plain = unet(x, t, context)
            with prepare(unet) as kernels:
                out = unet(x, t, context)
                assert kernels.packed_bytes > 0
    assert out.dtype == plain.dtype
    assert apart(out.float(), exact) < 1.5 * apart(plain.float(), exact)


def test_autocast_to_float16_and_other_types_take_the_plain_way():
    layer, x = made("linear")
    with torch.no_grad():
        with torch.autocast("cpu", torch.float16):
            plain = layer(x)
            with prepare(layer) as kernels:
                assert torch.equal(layer(x), plain) and kernels.packed_bytes == 0
        layer, x = layer.double(), x.double()
        with prepare(layer):
            assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("name", ["3x3", "linear", "GEGLU", "UNet's upsampling"])
def test_hooks_on_inner_layers_still_act(name):
    layer, x = made(name)
    inner = next(each for each in layer.modules() if isinstance(each, nn.Conv2d | nn.Linear))
    with torch.no_grad(), prepare(layer) as kernels:
        layer(x)  # packed without the hook first
        hook = inner.register_forward_hook(lambda *call: call[2] + 1)
        out = layer(x)
        kernels.detach()
        assert apart(out, layer(x)) < 1e-6
        hook.remove()
        assert apart(out, layer(x)) > 0.01


def test_keys_and_values_of_a_text_are_computed_once_and_anew_for_another(unet):
    x, t, context = inputs()
    block = next(m for m in unet.modules() if type(m).__name__ == "BasicTransformerBlock")
    seen = []
    block.attn2.to_k.register_forward_hook(lambda *call: seen.append(call[2]))
    with torch.no_grad(), prepare(unet):
        first = unet(x, t, context)
        assert torch.equal(unet(x, t, context), first)
        assert seen[1] is seen[0]
        other = unet(x, t, context + 1)
        context.add_(1)
        changed = unet(x, t, context)
        block.attn2.to_k.weight.mul_(2)
        unet(x, t, context)
    assert not torch.equal(changed, first)
    assert apart(changed, other) < 1e-6
    assert apart(seen[4], 2 * seen[3]) < 1e-6


def test_a_layer_that_was_somebody_elses_when_it_was_prepared_is_packed_once_it_is_free():
    layer, x = made("linear")
    layer.forward = lambda x: x + 1  # such as 8-bit integers for the time of a run
    kernels = prepare(nn.Sequential(layer))
    assert torch.equal(layer(x), x + 1) and kernels.packed_bytes == 0
    kernels.detach()
    del layer.forward
    plain = layer(x)
    with kernels.during_run(), torch.no_grad():
        assert apart(layer(x), plain) < 1e-6
    assert kernels.packed_bytes > 0
