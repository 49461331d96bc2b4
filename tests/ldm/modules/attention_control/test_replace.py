"""Swapped words look where the words in their place looked."""

from __future__ import annotations

import pytest
import torch
from edited_walks import LENGTH, read

from ldm.errors import UserError
from ldm.modules.attention_control.alignment import replacement
from ldm.modules.attention_control.replace import Replace

CAT, DOG, SAMOYED = read("a cat on a mat"), read("a dog on a mat"), read("a samoyed on a mat")


def maps(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 16, LENGTH, generator=generator).softmax(-1)


def test_each_word_has_the_map_of_the_word_in_its_place_to_the_bit():
    base, own = maps(0), maps(1)
    assert torch.equal(Replace(CAT, [DOG]).edited(base, own, 0), base)


def test_a_word_of_two_tokens_has_half_of_the_map_in_each():
    base = maps(0)
    found = Replace(CAT, [SAMOYED]).edited(base, maps(1), 0)
    assert torch.equal(found[..., 2], base[..., 2] / 2) and torch.equal(
        found[..., 3], found[..., 2]
    )
    assert torch.equal(found[..., 4:8], base[..., 3:7])  # on a mat END
    assert torch.allclose(found.sum(-1), torch.ones(3, 16), atol=1e-6)


def test_two_tokens_onto_one_add_up():
    base = maps(0)
    found = Replace(SAMOYED, [CAT]).edited(base, maps(1), 0)
    assert torch.allclose(found[..., 2], base[..., 2] + base[..., 3])


def test_each_target_has_a_mapper_of_its_own():
    base = maps(0)
    edit = Replace(CAT, [DOG, SAMOYED])
    for number, target in enumerate((DOG, SAMOYED)):
        expected = base @ replacement(CAT, target)
        assert torch.allclose(edit.edited(base, maps(1), number), expected, atol=1e-7)


def test_japanese_words_are_swapped_as_well():
    source, target = read("赤い猫の写真"), read("赤い犬の写真")
    assert torch.equal(Replace(source, [target]).edited(maps(0), maps(1), 0), maps(0))


def test_another_number_of_words_is_refused_in_one_line():
    with pytest.raises(
        UserError, match="has 5 words and .* has 6; .* use the mode refine"
    ) as error:
        Replace(CAT, [read("a fluffy cat on a mat")])
    assert "\n" not in str(error.value)
