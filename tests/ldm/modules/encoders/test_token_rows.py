"""Any tokenizer's row of ids, with the stretch of the prompt that each id stands for."""

from __future__ import annotations

import pytest

from ldm.errors import UserError
from ldm.modules.encoders.bert import BERTTokenizer
from ldm.modules.encoders.open_clip_tokenizer import OpenCLIPTokenizer
from ldm.modules.encoders.rows import token_row
from ldm.modules.encoders.tokenizer import CLIPTokenizer, load_vocabulary


class SlowTokenizer:
    """The interface of transformers' slow tokenizers, over a list of pieces."""

    is_fast, unk_token_id, model_max_length = False, 1, 8

    def __init__(self, pieces: list[str], before: int = 0):
        self.pieces = ["<pad>", "<unk>", "</s>", *pieces]
        self.ids = [1 if piece == "<unk>" else n for n, piece in enumerate(pieces, start=3)]
        self.before = before

    def num_special_tokens_to_add(self) -> int:
        return self.before + 1

    def decode(self, ids) -> str:
        return "".join(self.pieces[token_id] for token_id in ids)

    def __call__(self, text, max_length, **_):
        ids = [*([2] * self.before + self.ids)[: max_length - 1], 2]
        special = [n < self.before or n == len(ids) - 1 for n in range(len(ids))]
        padding = max_length - len(ids)
        return {
            "input_ids": ids + [0] * padding,
            "special_tokens_mask": [*map(int, special), *[1] * padding],
        }


@pytest.fixture(scope="module")
def fast():
    transformers = pytest.importorskip("transformers")
    if int(transformers.__version__.split(".")[0]) < 5:
        pytest.skip("builds from a vocabulary in memory since release 5")
    vocabulary = load_vocabulary()
    merges = [tuple(merge.split(" ")) for merge in vocabulary.ranks]
    return transformers.CLIPTokenizer(vocab=vocabulary.ids, merges=merges, model_max_length=77)


@pytest.mark.parametrize("kind", [CLIPTokenizer, OpenCLIPTokenizer])
@pytest.mark.parametrize("text", ["", "a cat", "赤い猫の写真", "word " * 30])
def test_our_rows_are_the_encoders_and_only_the_prompts_own_tokens_have_a_stretch(kind, text):
    tokenizer = kind(max_length=12)
    row = token_row(tokenizer, text)
    assert list(row.ids) == tokenizer(text)["input_ids"][0].tolist()
    kept = tokenizer.offsets(text)[:10]
    assert row.spans == (None, *kept, *[None] * (11 - len(kept)))
    assert row.start == 1


def test_berts_row_is_read_as_well(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat"]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = BERTTokenizer(tokenizer_path=tmp_path, vq_interface=False, max_length=5)
    row = token_row(tokenizer, "A cat")
    assert row.ids == (2, 5, 6, 3, 0)
    assert row.spans == (None, (0, 1), (2, 5), None, None)


@pytest.mark.parametrize("text", ["a Light blue house,", "赤い猫と犬の写真", "", "word " * 100])
def test_a_fast_tokenizer_of_transformers_gives_what_ours_gives(fast, text):
    assert token_row(fast, text) == token_row(CLIPTokenizer(), text)


def test_a_byte_tokenizer_without_offsets_has_its_characters_found():
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.ByT5Tokenizer(model_max_length=10)
    row = token_row(tokenizer, "a 猫é")
    stretches = [(0, 1), (1, 1), *[(2, 3)] * 3, *[(3, 4)] * 2]
    assert row.spans == (*stretches, None, None, None)
    assert row.start == 0


def test_a_character_that_the_rows_end_cuts_is_its_stretch_still():
    transformers = pytest.importorskip("transformers")
    row = token_row(transformers.ByT5Tokenizer(model_max_length=10), "a 猫の写真", length=8)
    assert row.spans[:-1] == ((0, 1), (1, 1), *[(2, 3)] * 3, *[(3, 4)] * 2)


def test_pieces_are_found_whatever_their_case_width_and_accents():
    row = token_row(SlowTokenizer(["cafe", " cat", "##s", "カ"], before=1), "Café　ＣＡＴs ｶ")
    assert row.spans[1:5] == ((0, 4), (5, 8), (8, 9), (10, 11))
    assert row.start == 1


@pytest.mark.parametrize(
    ("pieces", "text", "unknown"),
    [(["a", "<unk>", "cat"], "a zebra cat", (2, 7)), (["a", "<unk>"], "a zebra cat", (2, 7))],
)
def test_an_unknown_token_takes_what_lies_between_its_neighbours(pieces, text, unknown):
    place = pieces.index("<unk>")
    assert token_row(SlowTokenizer(pieces), text).spans[place] == unknown


def test_pieces_that_are_not_the_prompts_are_one_clear_line():
    with pytest.raises(UserError, match="piece 'dog'.*'a cat'.*fast tokenizer") as caught:
        token_row(SlowTokenizer(["a", "dog"]), "a cat")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="piece 'cat'"):  # it may not skip a word either
        token_row(SlowTokenizer(["a", "cat"]), "a big cat")


def test_a_tokenizer_without_a_row_length_needs_one():
    tokenizer = SlowTokenizer(["a", " cat"])
    tokenizer.model_max_length = int(1e30)
    with pytest.raises(UserError, match="model_max_length"):
        token_row(tokenizer, "a cat")
    assert len(token_row(tokenizer, "a cat", length=5).ids) == 5
