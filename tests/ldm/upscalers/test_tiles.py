"""Tiles are without seams: the result of the whole picture, in parts."""

from __future__ import annotations

import pytest
import torch
from upscaler_files import random_network

from ldm.upscalers.tiles import DROPPED, Cut, in_tiles, tiles_of


@pytest.mark.parametrize(("side", "overlap"), [(32, 0), (32, 16), (48, 16), (64, 24)])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 47, 48, 64, 100, 163])
def test_the_shares_of_all_tiles_add_up_to_one(side, overlap, length):
    cut, total = Cut(side, overlap, 8), torch.zeros(length * 3)
    for span in cut.spans(length, 3):
        assert span.start % 8 == 0 and span.stop - span.start <= max(side, 1)
        total[span.start * 3 : span.stop * 3] += span.shares
    torch.testing.assert_close(total, torch.ones(length * 3))


def test_nothing_of_what_is_near_an_inner_border_is_used():
    first, *_, last = Cut(64, 32).spans(200, 2)
    dropped = int(DROPPED * 32 * 2)
    assert not first.shares[-dropped:].any() and not last.shares[:dropped].any()
    assert first.shares[0] == 1 and last.shares[-1] == 1


@pytest.mark.parametrize(("height", "width"), [(40, 40), (90, 61), (33, 150), (7, 65)])
def test_tiles_give_the_picture_of_one_piece(height, width):
    # Five convolutions of 3x3: it sees 5 pixels far, and 6 of an overlap of 16 are dropped.
    network = random_network("Compact")
    x = torch.rand(1, 3, height, width)
    with torch.inference_mode():
        whole = network(x)[0]
        strips = list(in_tiles(network, x, Cut(48, 16, 8), 2))
    assert [first for first, _ in strips] == [
        sum(strip.shape[1] for _, strip in strips[:k]) for k in range(len(strips))
    ]
    torch.testing.assert_close(
        torch.cat([strip for _, strip in strips], 1), whole, rtol=0, atol=1e-6
    )


def test_tiles_that_overlap_too_little_do_not():
    network, x = random_network("Compact"), torch.rand(1, 3, 96, 96)
    with torch.inference_mode():
        whole = network(x)[0]
        tiled = torch.cat([strip for _, strip in in_tiles(network, x, Cut(48, 4), 2)], 1)
    assert (tiled - whole).abs().max() > 1e-4


def test_no_more_than_a_row_of_tiles_is_held():
    calls = []
    strips = in_tiles(
        lambda x: x, torch.rand(1, 3, 320, 64), Cut(64, 16), 1, lambda: calls.append(1)
    )
    for number, (_, strip) in enumerate(strips, start=1):
        assert strip.shape[1] <= 64 and len(calls) == number
    assert len(calls) == tiles_of(320, 64, Cut(64, 16)) == 7
