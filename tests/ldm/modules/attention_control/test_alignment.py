"""Tokens of two prompts correspond as in prompt-to-prompt, arXiv:2208.01626."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch

from ldm.errors import UserError
from ldm.modules.attention_control.alignment import NEW, align, is_swap, refinement, replacement
from ldm.modules.attention_control.words import read_prompt
from ldm.modules.encoders.tokenizer import CLIPTokenizer

CLIP = CLIPTokenizer()
SHORT = CLIPTokenizer(max_length=12)

# Pairs of equally many words: the same tokens, more, fewer, several swaps, Japanese, the row's end.
SWAPS = [
    ("a cat on a mat", "a dog on a mat"),
    ("a cat on a mat", "a samoyed on a mat"),
    ("a samoyed, on a mat", "a cat, on a mat"),
    ("a cat and a samoyed", "a samoyed and a cat"),
    ("赤い猫の写真", "青い自動車の写真"),
    ("赤い自動車の写真", "赤いネコの写真"),
    ("ＣＡＴ 🐱", "dog 👩\u200d🚀🐶"),
    ("", ""),
    ("a cat", "a cat"),
    ("samoyed " * 5, "cat " * 5),
    ("cat " * 5, "samoyed " * 5),
    ("word " * 30, "word " * 29 + "cat"),
]


def read(text: str, tokenizer=CLIP):
    return read_prompt(tokenizer, text)


@pytest.mark.parametrize(("source", "target"), SWAPS)
@pytest.mark.parametrize("tokenizer", [CLIP, SHORT], ids=["77", "12"])
def test_each_source_tokens_row_sums_to_one(source, target, tokenizer):
    mapper = replacement(read(source, tokenizer), read(target, tokenizer))
    assert mapper.shape == (tokenizer.max_length,) * 2
    torch.testing.assert_close(mapper.sum(1), torch.ones(len(mapper)))
    assert (mapper >= 0).all()


def test_carried_probabilities_sum_to_one_again():
    probabilities = torch.rand(4, 77, generator=torch.manual_seed(0)).softmax(-1)
    for source, target in SWAPS:
        carried = probabilities @ replacement(read(source), read(target))
        torch.testing.assert_close(carried.sum(-1), torch.ones(4))


@pytest.mark.parametrize("text", ["", "a cat, a dog", "赤い猫の写真", "word " * 100])
def test_a_prompt_onto_itself_is_the_identity(text):
    assert torch.equal(replacement(read(text), read(text)), torch.eye(77))


def test_a_word_of_as_many_tokens_is_the_identity():
    mapper = replacement(read("a cat on a mat"), read("a dog on a mat"))
    assert torch.equal(mapper, torch.eye(77))


def test_one_token_is_spread_over_the_words_two_and_later_words_shift():
    source, target = read("a cat sits"), read("a samoyed sits")
    assert target.positions("samoyed") == (2, 3)
    mapper = replacement(source, target)
    expected = torch.eye(77)
    expected[2, [2, 3]] = 0.5
    expected[3] = torch.eye(77)[4]  # sits
    expected[4] = torch.eye(77)[5]  # end
    expected[5] = torch.eye(77)[6]  # padding, whose place the target's end has taken
    assert torch.equal(mapper, expected)


def test_two_tokens_meet_in_one_and_paddings_keep_their_places():
    mapper = replacement(read("a samoyed sits"), read("a cat sits"))
    expected = torch.eye(77)
    expected[[2, 3]] = torch.eye(77)[2]
    expected[4] = torch.eye(77)[3]  # sits
    expected[5] = torch.eye(77)[4]  # end
    assert torch.equal(mapper, expected)


def test_equal_words_meet_whatever_is_swapped_before_them():
    source, target = read("cat, and a red house"), read("samoyed, and a red house")
    mapper = replacement(source, target)
    for word in ("and", "red", "house"):
        (row,), (column,) = source.positions(word), target.positions(word)
        assert mapper[row, column] == 1


def test_japanese_words_are_swapped_by_runs_of_script():
    source, target = read("赤い猫の写真"), read("赤い自動車の写真")
    mapper = replacement(source, target)
    rows, columns = source.positions("猫"), target.positions("自動車")
    assert len(rows) != len(columns)
    block = mapper[list(rows)][:, list(columns)]
    assert torch.equal(block, torch.full_like(block, 1 / len(columns)))
    tail = mapper[list(source.positions("写真"))][:, list(target.positions("写真"))]
    assert torch.equal(tail, torch.eye(len(tail)))


def test_a_word_whose_counterpart_is_cut_off_goes_to_the_end_token():
    source, target = read("cat " * 9 + "dog", SHORT), read("samoyed " * 9 + "dog", SHORT)
    mapper = replacement(source, target)
    assert torch.equal(mapper[10], torch.eye(12)[11])


@pytest.mark.parametrize(
    ("source", "target", "counts"),
    [("a cat", "a big cat", "2.*3"), ("赤い猫", "赤いりんご", "3.*2"), ("", "cat", "0.*1")],
)
def test_prompts_of_unequal_word_counts_are_no_swap(source, target, counts):
    source, target = read(source), read(target)
    assert not is_swap(source, target)
    with pytest.raises(UserError, match=f"{counts}.*refine or auto") as caught:
        replacement(source, target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("source", "target"), SWAPS)
def test_prompts_of_equal_word_counts_are_a_swap(source, target):
    assert is_swap(read(source), read(target))


@pytest.mark.parametrize("mapping", [replacement, refinement])
def test_rows_of_different_lengths_are_refused(mapping):
    with pytest.raises(UserError, match="77 and 12"):
        mapping(read("a cat"), read("a dog", SHORT))


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ([], [], []),
        ([1], [], []),
        ([], [1], [NEW]),
        ([7, 1, 2, 9], [7, 1, 5, 2, 9], [0, 1, NEW, 2, 3]),
        ([7, 1, 2, 9], [7, 2, 9], [0, 2, 3]),
        ([7, 1, 9], [7, 2, 9], [0, NEW, 2]),
        ([1], [1, 1, 1], [0, NEW, NEW]),
        ([1, 1, 1], [1], [0]),
        ([1, 2], [2, 1], [1, NEW]),
    ],
)
def test_alignment_of_hand_made_rows(source, target, expected):
    assert align(source, target) == expected


def test_alignment_keeps_the_longest_common_subsequence_in_order():
    rng = random.Random(1)

    def longest(a, b):
        @cache
        def rest(i, j):
            if i == len(a) or j == len(b):
                return 0
            if a[i] == b[j]:
                return 1 + rest(i + 1, j + 1)
            return max(rest(i + 1, j), rest(i, j + 1))

        return rest(0, 0)

    for _ in range(200):
        a, b = ([rng.randrange(4) for _ in range(rng.randrange(9))] for _ in range(2))
        found = align(a, b)
        kept = [origin for origin in found if origin != NEW]
        assert all(a[i] == b[j] for j, i in enumerate(found) if i != NEW)
        assert kept == sorted(set(kept))
        assert len(kept) == longest(a, b)


def test_a_refinement_takes_old_tokens_from_the_source_and_keeps_new_ones():
    index, kept = refinement(read("a house in snow"), read("a light blue house in snow"))
    assert index.dtype == torch.long
    assert index[:8].tolist() == [0, 1, 2, 3, 2, 3, 4, 5]
    assert kept[:8].tolist() == [1, 1, 0, 0, 1, 1, 1, 1]


def test_the_padding_of_a_refinement_maps_to_itself():
    index, kept = refinement(read("a house"), read("a light blue house"))
    assert index[6:].tolist() == list(range(6, 77))
    assert (kept[6:] == 1).all()


def test_words_taken_out_shift_the_rest():
    index, kept = refinement(read("a light blue house"), read("a house"))
    assert index[:4].tolist() == [0, 1, 4, 5]
    assert (kept == 1).all()


def test_a_refinement_works_in_japanese_whatever_the_words():
    source, target = read("赤いりんごの写真"), read("赤い猫の写真")
    index, kept = refinement(source, target)
    for old in ("赤", "写真"):
        assert index[list(target.positions(old))].tolist() == list(source.positions(old))
        assert (kept[list(target.positions(old))] == 1).all()
    assert (kept[list(target.positions("猫"))] == 0).any()


@pytest.mark.parametrize(("source", "target"), SWAPS)
def test_a_refinement_holds_only_positions_of_the_row(source, target):
    index, kept = refinement(read(source, SHORT), read(target, SHORT))
    assert index.shape == kept.shape == (12,)
    assert ((index >= 0) & (index < 12)).all()
    assert set(kept.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("text", ["", "a cat", "猫と猫", "word " * 100])
def test_a_refinement_to_the_same_prompt_keeps_all(text):
    index, kept = refinement(read(text), read(text))
    assert torch.equal(index, torch.arange(77))
    assert (kept == 1).all()
