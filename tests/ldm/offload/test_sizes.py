"""What is counted of a model agrees with what its tensors and operations come to."""

from __future__ import annotations

import weakref

import pytest
import torch
from offload_parts import make_tiny
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ldm.offload.sizes import measure
from ldm.offload.stages import STAGES, tables_of

MIB = 2**20
SIDE = 32  # of the latent: large enough that what is per row and not per position does not count


class Living(TorchDispatchMode):
    """Counts the bytes of tensors that are made inside and live at once."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        known = [
            leaf.untyped_storage()._cdata
            for leaf in tree_leaves((args, kwargs or {}))
            if isinstance(leaf, torch.Tensor)
        ]
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.count(leaf.untyped_storage(), known)
        return result

    def count(self, storage, given):
        key, size = storage._cdata, storage.nbytes()
        if key in self.known or key in given:
            return
        self.known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self.forget, key, size)

    def forget(self, key, size):
        self.known.discard(key)
        self.now -= size


def living(function, *args) -> int:
    with torch.no_grad(), Living() as tracker:
        function(*args)
    return tracker.peak


UNETS = {
    "tiny": {},
    "attention at once": {"attention_resolutions": [1, 2]},
    "three levels": {"channel_mult": [1, 2, 2], "attention_resolutions": [1], "num_res_blocks": 2},
    "plain": {
        "use_spatial_transformer": False,
        "context_dim": None,
        "attention_resolutions": [],
    },
    "wide below": {"channel_mult": [1, 4], "attention_resolutions": []},
}


@pytest.mark.parametrize("kind", UNETS)
def test_what_the_unet_holds_at_once_is_foreseen(kind):
    model = make_tiny(unet=UNETS[kind], cond_stage_config="__is_unconditional__")
    sizes, unet = measure(model), model.model.diffusion_model
    x, t, context = torch.zeros(1, 4, SIDE, SIDE), torch.zeros(1), torch.zeros(1, 4, 32)
    context = context if UNETS[kind].get("use_spatial_transformer", True) else None
    found = living(unet, x, t, context)
    expected = SIDE**2 * (sizes.held * 4 + sizes.work.bytes(4, autocast=True))
    assert 0.9 * found < expected < 1.35 * found


def test_what_the_autoencoder_holds_at_once_is_foreseen(tiny):
    sizes, first_stage = measure(tiny), tiny.first_stage_model
    picture, latent = torch.zeros(1, 3, 16, 16), torch.zeros(1, 4, 8, 8)
    for own, expected in (
        (living(first_stage.encode, picture), sizes.encoder),
        (living(first_stage.decode, latent), sizes.decoder),
    ):
        assert 0.9 * own < expected.bytes(4, autocast=True) * 16**2 < 1.2 * own


def test_the_work_of_layers_adds_up_to_that_of_the_unet():
    model = make_tiny(unet={"attention_resolutions": [1, 2]})
    unet = model.model.diffusion_model
    x, t, context = torch.zeros(1, 4, SIDE, SIDE), torch.zeros(1), torch.zeros(1, 4, 32)
    # Written out as products: not every torch counts its fused attention on a CPU.
    plain = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        unet(x, t, context)
    counted = sum(layer.flops(SIDE**2) for layer in measure(model).layers)
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.03)


def test_weights_are_counted_as_they_are_held(tiny):
    sizes = measure(tiny)
    tables = sum(table.weight.nbytes for table in tables_of(tiny))
    parameters = sum(p.nbytes for p in tiny.parameters()) - tables
    assert tuple(sizes.stages) == STAGES
    assert parameters <= sum(sizes.stages.values()) <= 1.1 * parameters + 2**17
    assert sizes.unet == sum(layer.nbytes for layer in sizes.layers)
    halved = measure(make_tiny().half())
    assert sum(halved.stages.values()) < 0.6 * sum(sizes.stages.values())


def test_the_full_model_in_half_precision_is_as_large_as_is_known(v1):
    sizes = measure(v1)
    assert {stage: round(size / MIB) for stage, size in sizes.stages.items()} == {
        "text": 162,  # without the table of tokens, 72
        "unet_encode": 665,
        "unet_decode": 974,
        "autoencoder": 160,
    }
    assert max(layer.nbytes for layer in sizes.layers) == pytest.approx(93.8 * MIB, rel=1e-3)
    assert sizes.factor == 8
    # 25 maps of the first level for each row at work, 5 that wait between the halves.
    assert sizes.work.plain + sizes.work.norms == 25 * 320
    assert sizes.held / 320 == pytest.approx(5, abs=0.1)
    pixels = 512 * 512
    assert sizes.decoder.bytes(2, autocast=False) * pixels == 384 * MIB
    assert sizes.decoder.bytes(2, autocast=True) * pixels == 384 * MIB
    assert sizes.encoder.bytes(2, autocast=False) * pixels == 256 * MIB


def test_the_full_models_upper_levels_do_most_of_the_work_with_few_bytes(v1):
    layers = measure(v1).layers
    total = sum(layer.flops(64 * 64) for layer in layers)
    upper = [layer for layer in layers if layer.share >= 1 / 4]
    assert total == pytest.approx(0.80e12, rel=0.02)
    assert sum(layer.flops(64 * 64) for layer in upper) > 0.65 * total
    assert sum(layer.nbytes for layer in upper) < 0.2 * sum(layer.nbytes for layer in layers)


def test_a_model_without_text_or_autoencoder_has_none_to_count():
    identity = {"target": "ldm.models.autoencoder.IdentityFirstStage"}
    plain = {"use_spatial_transformer": False, "context_dim": None}
    model = make_tiny(
        cond_stage_config="__is_unconditional__", first_stage_config=identity, unet=plain
    )
    sizes = measure(model)
    assert sizes.stages["text"] == sizes.stages["autoencoder"] == 0
    assert sizes.decoder.bytes(4, autocast=True) == sizes.text == 0
    assert sizes.factor == 1
