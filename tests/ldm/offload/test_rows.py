"""A batch in parts gives what the whole gives."""

from __future__ import annotations

import pytest
import torch

from ldm.offload.rows import in_rows


def nested(x, tokens, maps, scale):
    return x * scale, (tokens.sum(1), [m + x.mean() * 0 for m in maps])


@pytest.mark.parametrize("rows", [None, 1, 2, 3, 5, 9])
def test_parts_make_up_the_whole_whatever_their_number(rows):
    x, tokens = torch.randn(5, 3), torch.randn(5, 4, 2)
    maps = [torch.randn(5, 2), torch.randn(5, 7, 1)]
    plain, (summed, moved) = in_rows(nested, rows, x, tokens, maps, 2.0)
    expected, (expected_sum, expected_maps) = nested(x, tokens, maps, 2.0)
    assert torch.equal(plain, expected) and torch.equal(summed, expected_sum)
    assert all(torch.equal(a, b) for a, b in zip(moved, expected_maps, strict=True))


def test_no_part_is_larger_than_asked():
    seen = []
    in_rows(lambda x: seen.append(len(x)) or x, 2, torch.zeros(5, 1))
    assert seen == [2, 2, 1]


def test_what_has_other_rows_is_given_whole():
    seen = []
    in_rows(lambda x, *rest: seen.append(rest) or x, 1, torch.zeros(2, 1), torch.ones(3), None)
    assert all(tensor.shape == (3,) and nothing is None for tensor, nothing in seen)
