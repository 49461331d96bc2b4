"""Weights in one buffer: laid out densely, moved once, and what they were."""

from __future__ import annotations

import pytest
import torch
from offload_parts import CPU, Elsewhere, assert_same, make_tiny, snapshot, use

from ldm.offload.movers import Mover, gather, mover_for, pack
from ldm.offload.pieces import ALIGNMENT, cut
from ldm.offload.plan import POLICIES


class Gathering(Elsewhere):
    """Gathers the host's weights as a CUDA device has them gathered, in ordinary memory."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    def settle(self, pieces):
        gather(pieces, self._make, lambda flat: True)

    def _make(self, nbytes):
        self.made.append(nbytes)
        return torch.empty(nbytes, dtype=torch.uint8)


def test_blocks_are_packed_without_overlap_and_little_is_lost():
    generator = torch.Generator().manual_seed(0)
    sizes = [int(n) for n in torch.randint(1, 90, (60,), generator=generator)] + [300, 0]
    places, chunks = pack(sizes, chunk=128)
    taken = [[] for _ in chunks]
    for (chunk, start), size in zip(places, sizes, strict=True):
        taken[chunk].append((start, start + size))
    for chunk, blocks in zip(chunks, taken, strict=True):
        blocks.sort()
        assert all(a[1] <= b[0] for a, b in zip(blocks, blocks[1:], strict=False))
        assert blocks[-1][1] <= chunk
    assert 512 in chunks  # the block that is larger than a chunk
    assert sum(chunks) - 512 < 1.1 * sum(sizes[:60])


def test_a_piece_begins_every_tensor_where_a_device_would(tiny):
    for piece in cut(tiny):
        flat = torch.empty(piece.nbytes, dtype=torch.uint8)
        starts = [view.data_ptr() - flat.data_ptr() for view in piece.views(flat)]
        assert all(start % ALIGNMENT == 0 for start in starts)
        assert starts == sorted(starts)


@pytest.mark.parametrize("policy", POLICIES)
def test_gathered_weights_give_the_same(expected, attach, policy):
    model = make_tiny()
    before, mover = snapshot(model), Gathering()
    plan = attach(model, mover, policy=policy)
    assert torch.equal(use(model)["latent"], expected["latent"])
    plan.detach()
    assert_same(before, snapshot(model))
    assert len(mover.made) == 1  # one chunk holds this model


def test_what_is_gathered_is_not_moved_again(attach):
    model = make_tiny()
    attach(model, Gathering()).detach()
    places = {name: p.data_ptr() for name, p in model.named_parameters()}
    again = Gathering()
    attach(model, again, policy="stream")
    assert again.made == []
    assert places == {name: p.data_ptr() for name, p in model.named_parameters()}


def test_weights_of_which_one_was_replaced_are_gathered_anew(expected, attach):
    model = make_tiny()
    attach(model, Gathering()).detach()
    out = model.model.diffusion_model.out[2]
    out.bias = torch.nn.Parameter(out.bias + 1)
    again = Gathering()
    attach(model, again)
    assert len(again.made) == 1
    assert not torch.equal(use(model)["latent"], expected["latent"])


def test_the_order_of_a_kernels_numbers_is_kept(attach):
    model = make_tiny().to(memory_format=torch.channels_last)
    kernel = model.model.diffusion_model.input_blocks[1][0].in_layers[2]
    attach(model, Gathering(), policy="four-part")
    assert kernel.weight.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.weight.is_contiguous()


def test_weights_of_several_precisions_travel_together(attach):
    model = make_tiny()
    model.model.diffusion_model.out[0].double()
    plan = attach(model, Gathering(), policy="four-part")
    with torch.no_grad(), plan.on("unet_decode"):
        assert model.model.diffusion_model.out[0].weight.dtype == torch.float64
        assert model.model.diffusion_model.out[2].weight.dtype == torch.float32
        assert torch.equal(model.model.diffusion_model.out[0].weight, torch.ones(32).double())


def test_a_cpu_has_no_memory_of_its_own():
    assert not mover_for(CPU).moves
    assert Mover(torch.device("meta")).moves
