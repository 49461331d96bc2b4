"""The web UI's encoding, computed again here from its description, with transformers' model."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.prompts import A1111Encoder
from ldm.prompts.emphasis import BREAK, pieces
from ldm.prompts.encoding import repeated
from ldm.prompts.schedule import schedule

COMMA, START, END = 267, 49406, 49407
LONG = ", ".join(f"a {word} cat of the {n}th kind" for n, word in enumerate(["red", "blue"] * 9))
PROMPTS = [
    "a photo of a cat",
    "a (photo:1.4) of a [cat], (((red)))",
    "",
    "a red hat BREAK a (blue:0.5) cat BREAK",
    LONG,
    f"({LONG}:1.2), [dog]",
    "cat " * 80 + "(dog:2)",
    "(black:0) cat (white:-0.5)",
    *("cat " * before + "," + " cat" * 30 for before in (54, 55, 74, 75)),
]


def rows_again(tokenizer, text: str) -> list[list[tuple[int, float]]]:
    """Cut a text into rows of tokens with weights: looked up by slices, not token by token."""
    stretches: list[list[tuple[int, float]]] = [[]]
    for piece in pieces(text):
        if piece == BREAK:
            stretches.append([])
        else:
            stretches[-1] += [(n, piece.weight) for n in tokenizer.encode(piece.text)]
    rows = []
    for number, stretch in enumerate(stretches):
        while len(stretch) > 75:
            commas = [n for n in range(75) if stretch[n][0] == COMMA]
            near = commas and 75 - commas[-1] <= 20 and stretch[75][0] != COMMA
            cut = commas[-1] + 1 if near else 75
            rows.append(stretch[:cut])
            stretch = stretch[cut:]
        if stretch or number < len(stretches) - 1 or not rows:
            rows.append(stretch)
    return rows


@torch.no_grad()
def states_again(tokenizer, peer, texts, mode="original", skip=1) -> torch.Tensor:
    """Encode the texts of one prompt's steps, all at once: (T, N, D)."""
    rows = [rows_again(tokenizer, text) for text in texts]
    count = max(map(len, rows))
    done = []
    for column in range(count):
        chosen = [each[column] if column < len(each) else [] for each in rows]
        ids = [[START, *(n for n, _ in row)] for row in chosen]
        ids = torch.tensor([row + [END] * (77 - len(row)) for row in ids])
        factors = [[1.0, *(w for _, w in row)] for row in chosen]
        factors = torch.tensor([row + [1.0] * (77 - len(row)) for row in factors])
        out = peer(ids, output_hidden_states=True)
        z = out.last_hidden_state
        if skip > 1:
            norm = getattr(peer, "text_model", peer).final_layer_norm
            z = norm(out.hidden_states[-skip])
        mean = z.mean()
        z = z * factors[..., None]
        done.append(z * (mean / z.mean()) if mode == "original" else z)
    return torch.cat(done, dim=1)


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize(("mode", "skip"), [("original", 1), ("no-norm", 1), ("original", 2)])
def test_states_are_the_web_uis_to_a_hundred_thousandth(conditioner, peer, prompt, mode, skip):
    encoder = A1111Encoder(conditioner, 20, skip, mode)
    (part,) = encoder.encode(prompt)
    wanted = states_again(conditioner.tokenizer, peer, [prompt], mode, skip)[0]
    torch.testing.assert_close(part.states[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [4, 5])
def test_a_schedules_texts_share_one_mean_as_the_web_ui_encodes_them(conditioner, peer, steps):
    prompt = f"a [(cat:1.8)|dog] BREAK [{LONG}:(x:1.5):2]"
    texts = [text for _, text in schedule(prompt, steps)]
    (part,) = A1111Encoder(conditioner, steps).encode(prompt)
    wanted = states_again(conditioner.tokenizer, peer, texts)
    torch.testing.assert_close(torch.stack(part.states), wanted, rtol=1e-5, atol=1e-5)


def test_a_short_plain_prompt_is_encoded_to_the_bit_as_without_a_grammar(
    conditioner, open_conditioner
):
    for each in (conditioner, open_conditioner):
        (part,) = A1111Encoder(each, 20).encode("a red apple, on a table")
        assert torch.equal(part.states[0], each(["a red apple, on a table"])[0])


def test_stable_diffusion_2s_encoder_pads_with_its_own_token(open_conditioner):
    (part,) = A1111Encoder(open_conditioner, 20).encode("a (red:1.5) apple BREAK a dog")
    plain = open_conditioner(["a red apple", "a dog"])
    weights = torch.ones(77)
    weights[2] = 1.5
    first = plain[0] * weights[:, None]
    wanted = torch.cat([first * (plain[0].mean() / first.mean()), plain[1]])
    torch.testing.assert_close(part.states[0], wanted, rtol=1e-5, atol=1e-5)


def test_clip_skip_counts_blocks_from_the_encoders_own(conditioner, open_conditioner):
    assert (conditioner.blocks, open_conditioner.blocks) == (3, 2)
    for each in (conditioner, open_conditioner):
        ids = each.tokens(["a cat"])
        skipped = each.encode_ids(ids, 1)
        assert torch.equal(A1111Encoder(each, 9, 2).encode("a cat")[0].states[0], skipped[0])
        assert not torch.allclose(skipped, each(["a cat"]))
        with pytest.raises(UserError, match=r"--clip_skip 9 was given; .* has \d blocks"):
            A1111Encoder(each, 9, 9)


def test_ignored_weights_do_nothing_and_without_emphasis_brackets_are_text(conditioner):
    plain = conditioner(["a red cat", "a (red:2) cat BREAK"])
    ignored, none = (
        A1111Encoder(conditioner, 9, 1, mode).encode("a (red:2) cat BREAK")[0].states[0]
        for mode in ("ignore", "none")
    )
    torch.testing.assert_close(ignored[:77], plain[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(none, plain[1], rtol=0, atol=1e-6)


def test_parts_of_one_prompt_are_brought_to_one_length_by_their_last_token(conditioner):
    long, short = A1111Encoder(conditioner, 9).encode("a cat BREAK b AND a dog :0.5")
    assert (long.weight, short.weight) == (1.0, 0.5)
    alone = conditioner(["a dog"])[0]
    wanted = torch.cat([alone, alone[-1:].expand(77, -1)])
    assert len(long.states[0]) == 154
    torch.testing.assert_close(short.states[0], wanted, rtol=0, atol=1e-6)


class Vectors:
    """A tokenizer that gives ids beyond the vocabulary for the word of an embedding."""

    def __init__(self, tokenizer, length: int) -> None:
        self._tokenizer, self._length = tokenizer, length

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)

    def encode(self, text: str) -> list[int]:
        before, found, after = text.partition("zzz")
        vectors = [len(self) + n for n in range(self._length)] if found else []
        return [*self._tokenizer.encode(before), *vectors, *self._tokenizer.encode(after)]


@pytest.mark.parametrize("words", [0, 60, 72, 75])
def test_an_embeddings_vectors_stay_in_one_row_where_they_fit(conditioner, words):
    from ldm.prompts.rows import RowMaker

    maker = RowMaker(Vectors(conditioner.tokenizer, 8))
    rows = maker.rows(pieces("cat " * words + "(zzz:1.5) dog"))
    holding = [row for row in rows if any(n > END for n in row.ids)]
    assert len(holding) == 1
    (row,) = holding
    first = row.ids.index(END + 1)
    assert row.ids[first : first + 8] == list(range(END + 1, END + 9))
    assert row.weights[first : first + 8] == [1.5] * 8
    assert all(len(row.ids) == len(row.weights) == 77 for row in rows)
    assert len(rows) == (1 if words <= 60 else 2)


def test_an_embedding_longer_than_a_row_is_cut(conditioner):
    from ldm.prompts.rows import RowMaker

    rows = RowMaker(Vectors(conditioner.tokenizer, 160)).rows(pieces("cat zzz"))
    assert [n for row in rows for n in row.ids if n > END] == list(range(END + 1, END + 161))


def test_repeating_all_tokens_changes_nothing_that_attention_returns():
    torch.manual_seed(0)
    short, long = torch.randn(4, 8), torch.randn(6, 8)
    grown, other = repeated([short, long])
    assert len(grown) == len(other) == 12
    q = torch.randn(1, 1, 5, 8)
    attend = torch.nn.functional.scaled_dot_product_attention
    torch.testing.assert_close(
        attend(q, grown[None, None], grown[None, None]),
        attend(q, short[None, None], short[None, None]),
    )


def test_lengths_without_a_common_multiple_are_refused_in_one_line():
    with pytest.raises(UserError, match="prompts of 7, 8, 9 rows of tokens are drawn together"):
        repeated([torch.zeros(77 * n, 2) for n in (7, 8, 9)])


def test_a_prompt_of_too_many_rows_is_refused_in_one_line(conditioner):
    with pytest.raises(UserError, match="more than 64 rows of tokens"):
        A1111Encoder(conditioner, 9).encode("cat " * 6000)


def test_a_prompt_is_encoded_once(conditioner, monkeypatch):
    encoder = A1111Encoder(conditioner, 30)
    calls = []
    monkeypatch.setattr(
        conditioner,
        "encode_ids",
        lambda ids, *rest: calls.append(len(ids)) or torch.zeros(len(ids), 77, 32),
    )
    for _ in range(3):
        encoder.encode("a [cat|dog] in the [sun:rain:0.5]")
    assert calls == [4]


def test_an_encoder_that_cannot_is_named_in_one_line():
    from ldm.modules.encoders.bert import BERTEmbedder

    with pytest.raises(UserError, match="a BERTEmbedder, reads plain text only") as refused:
        A1111Encoder(BERTEmbedder(8, 1), 20)
    assert "\n" not in str(refused.value)
