"""Attention in blocks is attention, and takes only the calls that it is made for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.kernels import blocked
from ldm.kernels.blocked import attend_in_blocks
from ldm.kernels.prepare import is_available, prepare
from ldm.modules.attention import CrossAttention
from ldm.modules.attention_processors import eager, sdpa, set_attention_processor

SHAPES = {
    "blocks of rows": (2, 3, 300, 200, 8),
    "blocks of heads": (1, 5, 40, 130, 16),
    "a last block of one row": (1, 1, 33, 512, 8),
    "heads that no number of blocks divides": (1, 7, 40, 64, 16),
    "a text's keys": (2, 4, 40, 77, 40),
    "a text's keys, heads of whole vectors": (1, 2, 40, 77, 32),
    "more keys than are short": (1, 2, 20, 600, 24),
}


@pytest.fixture(autouse=True)
def on_any_processor(monkeypatch):
    monkeypatch.setattr(blocked, "pays", lambda: True)
    monkeypatch.setattr(blocked, "TABLE", 2**14 // torch.get_num_threads())
    monkeypatch.setattr(blocked, "LEAST_SCORES", 40 * 64)


def tokens(shape, dtype=torch.bfloat16):
    b, heads, n, m, d = shape
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(b, count, heads, d, generator=generator).to(dtype).transpose(1, 2)
        for count in (n, m, m)
    ]


def refused(*args, **kwargs):
    raise AssertionError("asked")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_blocks_attend_as_double_precision_does_but_for_rounding(shape):
    q, k, v = tokens(shape)
    found = attend_in_blocks(refused, q, k, v, mask=None, scale=0.4)
    exact = eager(q.double(), k.double(), v.double(), mask=None, scale=0.4)
    assert found.shape == q.shape and found.dtype == torch.bfloat16
    assert (found.double() - exact).norm() < 0.01 * exact.norm()


def test_an_entry_of_a_batch_gets_the_bits_that_it_gets_alone():
    q, k, v = tokens((3, 2, 70, 150, 8))
    together = attend_in_blocks(refused, q, k, v, mask=None, scale=0.4)
    alone = attend_in_blocks(refused, q[1:2], k[1:2], v[1:2], mask=None, scale=0.4)
    assert torch.equal(together[1:2], alone)


def test_what_fills_a_row_takes_no_part_of_the_probability():
    q, k, v = tokens((1, 1, 64, 70, 8))
    q, k = 30 * q, -30 * k.abs()  # true scores of -10,000 and less, that a filling 0 would outdo
    found = attend_in_blocks(refused, q.abs(), k, torch.ones_like(v), mask=None, scale=1.0)
    torch.testing.assert_close(found, torch.ones_like(found), atol=0.01, rtol=0)


def test_all_rows_are_of_whole_vectors(monkeypatch):
    seen = []

    def spy(q, k, v, scale):
        seen.append((k.shape[2], v.shape[1], v.shape[2]))
        return torch.bmm(torch.baddbmm(q.new_empty(()), q, k, beta=0).softmax(-1), v)

    monkeypatch.setattr(blocked, "_attend", spy)
    attend_in_blocks(refused, *tokens((1, 2, 40, 77, 40)), mask=None, scale=1.0)
    assert set(seen) == {(96, 96, 48)}


def test_autocast_to_bfloat16_is_attended_in_blocks_as_well():
    q, k, v = tokens((1, 2, 40, 77, 8), torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = attend_in_blocks(refused, q, k, v, mask=None, scale=0.4)
    cast = [x.bfloat16() for x in (q, k, v)]
    assert torch.equal(found, attend_in_blocks(refused, *cast, mask=None, scale=0.4))


OTHERS = {
    "float32": lambda: (tokens((1, 2, 40, 150, 8), torch.float32), None),
    "a small map": lambda: (tokens((1, 2, 16, 77, 8)), None),
    "a mask": lambda: (tokens((1, 2, 40, 150, 8)), torch.ones(1, 1, 1, 150, dtype=torch.bool)),
    "gradients": lambda: ([x.requires_grad_() for x in tokens((1, 2, 40, 150, 8))], None),
}


@pytest.mark.parametrize("case", OTHERS.values(), ids=OTHERS)
def test_other_calls_are_the_layers_own(case):
    (q, k, v), mask = case()
    found = attend_in_blocks(sdpa, q, k, v, mask=mask, scale=0.4)
    assert torch.equal(found, sdpa(q, k, v, mask=mask, scale=0.4))
    with pytest.raises(AssertionError, match="asked"):
        attend_in_blocks(refused, q, k, v, mask=mask, scale=0.4)


def test_a_processor_without_fast_bfloat16_attends_as_before(monkeypatch):
    monkeypatch.setattr(blocked, "pays", lambda: False)
    q, k, v = tokens((1, 2, 40, 150, 8))
    with pytest.raises(AssertionError, match="asked"):
        attend_in_blocks(refused, q, k, v, mask=None, scale=0.4)


@pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")
def test_prepared_layers_attend_in_blocks_and_come_back():
    model = nn.Sequential(CrossAttention(16, heads=2, dim_head=8))
    (layer,) = model
    plain = layer.processor
    with prepare(model):
        assert layer.processor.func is attend_in_blocks
    assert layer.processor is plain and "processor" not in vars(layer)


@pytest.mark.skipif(not is_available(), reason="this torch has no oneDNN")
def test_a_processor_that_was_chosen_is_left_alone():
    model = nn.Sequential(CrossAttention(16, heads=2, dim_head=8))
    set_attention_processor(model, eager)
    with prepare(model):
        assert model[0].processor is eager
    assert model[0].processor is eager
