"""Kernels of attention by the width of a head: the table, and who obeys it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend

from ldm.kernels.head_width import NAMED, ByHeadWidth, backends
from ldm.modules.attention_processors import sdpa

HALF = torch.float16


@pytest.mark.parametrize("d", [40, 80])
def test_cudnn_is_first_on_hopper_and_second_on_ampere(d):
    cudnn, flash = SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION
    assert backends(d, 9, HALF)[:2] == (cudnn, flash)
    assert backends(d, 8, HALF)[:2] == (flash, cudnn)


def test_heads_too_wide_for_cudnn_are_flash_attentions():
    assert backends(160, 9, HALF)[0] == SDPBackend.FLASH_ATTENTION
    assert SDPBackend.CUDNN_ATTENTION not in backends(160, 9, HALF)


@pytest.mark.parametrize(
    ("d", "capability", "dtype"),
    [(512, 9, HALF), (40, 7, HALF), (40, 9, torch.float32), (41, 9, HALF)],
)
def test_what_half_precision_kernels_cannot_do_goes_to_the_memory_efficient_one(
    d, capability, dtype
):
    assert backends(d, capability, dtype) == (NAMED["efficient"], NAMED["math"])


def test_every_list_ends_with_a_kernel_that_can_do_everything():
    lists = [
        backends(d, c, t)
        for d in (1, 40, 160, 512)
        for c in (7, 8, 9)
        for t in (HALF, torch.float32)
    ]
    assert all(each[-1] == SDPBackend.MATH for each in lists)


@pytest.mark.parametrize("first", [None, *NAMED])
def test_a_cpu_attends_as_ever(first):
    q, k, v = torch.randn(3, 1, 2, 5, 8)
    out = ByHeadWidth(9, first)(q, k, v, mask=None, scale=0.5)
    assert torch.equal(out, sdpa(q, k, v, mask=None, scale=0.5))
