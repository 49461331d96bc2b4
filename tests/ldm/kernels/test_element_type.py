"""The element type of a product is autocast's where autocast would cast, and else the tensor's."""

from __future__ import annotations

import pytest
import torch

from ldm.kernels.element_type import computed_type, computes_in


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.int64])
def test_it_is_the_type_that_a_product_has(dtype):
    x = torch.ones(2, 2, dtype=dtype)
    assert computed_type(x) == (x @ x).dtype
    with torch.autocast("cpu", torch.bfloat16):
        assert computed_type(x) == (x @ x).dtype


def test_packed_weights_multiply_in_float32_everywhere_and_never_in_float64_or_float16():
    assert computes_in(torch.float32)
    assert not computes_in(torch.float64) and not computes_in(torch.float16)
