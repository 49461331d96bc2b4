"""Words in common keep their maps, new words have their own."""

from __future__ import annotations

import torch
from edited_walks import LENGTH, read

from ldm.modules.attention_control.refine import Refine

CAT, FLUFFY = read("a cat on a mat"), read("a fluffy cat on a red mat")


def maps(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 16, LENGTH, generator=generator).softmax(-1)


def test_tokens_in_common_have_the_sources_maps_and_new_ones_their_own_to_the_bit():
    base, own = maps(0), maps(1)
    found = Refine(CAT, [FLUFFY]).edited(base, own, 0)
    origins = [0, 1, None, 2, 3, 4, None, 5, 6, *range(9, LENGTH)]
    for position, origin in enumerate(origins):
        expected = own[..., position] if origin is None else base[..., origin]
        assert torch.equal(found[..., position], expected), position


def test_words_that_are_left_out_take_nothing_with_them():
    base, own = maps(0), maps(1)
    found = Refine(FLUFFY, [CAT]).edited(base, own, 0)
    for position, origin in enumerate([0, 1, 3, 4, 5, 7, 8, *range(7, LENGTH)]):
        assert torch.equal(found[..., position], base[..., origin]), position


def test_each_target_is_aligned_by_itself():
    base, own = maps(0), maps(1)
    edit = Refine(CAT, [CAT, FLUFFY])
    assert torch.equal(edit.edited(base, own, 0), base)
    alone = Refine(CAT, [FLUFFY])
    assert torch.equal(edit.edited(base, own, 1), alone.edited(base, own, 0))
