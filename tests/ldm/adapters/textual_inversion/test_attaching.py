"""Embeddings in prompts: found as words, put where they stand, gone without a trace."""

from __future__ import annotations

import embedding_files as files
import pytest
import torch

from ldm.adapters.textual_inversion import read_embedding
from ldm.adapters.textual_inversion.embedding import Embedding
from ldm.errors import UserError
from ldm.modules.attention_control.words import read_prompt

VOCABULARY = 49408


def embedding(name: str, n: int = 2, seed: int = 1, width: int = 32) -> Embedding:
    return Embedding.of(name, files.vectors(n, width, seed))


def encoded(model, text):
    with torch.no_grad():
        return model.get_learned_conditioning([text])


def by_hand(model, text, values):
    """Encode a text whose letters x are vectors in turn: another way to the same states."""
    encoder = model.cond_stage_model
    ids = encoder.tokens(text)
    (x,) = encoder.tokenizer.encode("x")
    table = encoder.transformer.text_model.embeddings.token_embedding
    states = table(ids)
    states[0, (ids[0] == x).nonzero().flatten()] = values
    handle = table.register_forward_hook(lambda *_: states)
    with torch.no_grad():
        out = encoder.transformer(ids).last_hidden_state
    handle.remove()
    return out


def test_vectors_stand_where_the_word_is(v1):
    made = embedding("sunny", n=3)
    expected = by_hand(v1, "a x x x cat", made.vectors)
    with made.attach(v1):
        assert torch.equal(encoded(v1, "a sunny cat"), expected)
        assert torch.equal(encoded(v1, "a SUNNY cat"), expected)
        assert torch.equal(encoded(v1, "a embedding:sunny.pt cat"), expected)


def test_detaching_restores_everything_bitwise(v1):
    before, state = encoded(v1, "a sunny cat"), {k: v.clone() for k, v in v1.state_dict().items()}
    tokenizer = dict(vars(v1.cond_stage_model.tokenizer))
    handle = embedding("sunny").attach(v1)
    assert not torch.equal(encoded(v1, "a sunny cat"), before)
    assert v1.state_dict().keys() == state.keys()
    handle.detach()
    handle.detach()
    assert torch.equal(encoded(v1, "a sunny cat"), before)
    assert all(torch.equal(v, state[k]) for k, v in v1.state_dict().items())
    assert vars(v1.cond_stage_model.tokenizer) == tokenizer
    table = v1.cond_stage_model.transformer.text_model.embeddings.token_embedding
    assert not table._forward_hooks and not table._forward_pre_hooks


def test_a_prompt_without_the_word_is_encoded_as_before(v1):
    text = "a (cat:1.2), ｆｕｌｌ  width &amp; more"
    before = encoded(v1, text)
    with embedding("sunny").attach(v1):
        assert torch.equal(encoded(v1, text), before)


@pytest.mark.parametrize("leaving", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_several_leave_in_any_order(v1, leaving):
    texts = [f"one {word} day" for word in ("sunny", "rainy", "windy")]
    plain = [encoded(v1, text) for text in texts]
    handles = [
        embedding(w, n, seed=n).attach(v1) for n, w in enumerate(("sunny", "rainy", "windy"), 1)
    ]
    attached = [encoded(v1, text) for text in texts]
    for done, number in enumerate(leaving, 1):
        handles[number].detach()
        gone = leaving[:done]
        for n, text in enumerate(texts):
            wanted = plain[n] if n in gone else attached[n]
            assert torch.equal(encoded(v1, text), wanted)


def test_the_longest_word_is_taken_and_letters_make_it_another(v1):
    tokenizer = v1.cond_stage_model.tokenizer
    with embedding("bad", 1).attach(v1), embedding("bad hands", 2).attach(v1):

        def added(text):
            return [n - VOCABULARY for n in tokenizer.encode(text) if n >= VOCABULARY]

        assert added("Bad, (bad  hands:1.2) badly abad bad-5 bad") == [0, 1, 2, 0, 0]


def test_a_placeholder_in_brackets_is_found_beside_other_marks(v1, tmp_path):
    path = files.write_diffusers(tmp_path / "learned.bin", files.vectors(1))
    with read_embedding(path).attach(v1):
        ids = v1.cond_stage_model.tokenizer.encode("(<cat-toy>), learned")
        assert sum(n >= VOCABULARY for n in ids) == 2


def test_ids_offsets_and_what_is_cut_off_are_right(v1):
    tokenizer = v1.cond_stage_model.tokenizer
    with embedding("sunny", 4).attach(v1):
        text = "a sunny cat"
        assert tokenizer.encode(text)[1:5] == [VOCABULARY + n for n in range(4)]
        assert tokenizer.offsets(text) == [(0, 1), *[(2, 7)] * 4, (8, 11)]
        long = "cat " * 73 + "sunny day"
        assert tokenizer.truncated(long) == "sunny day"
        assert len(tokenizer(long)["input_ids"][0]) == 77
        assert tokenizer.truncated("cat " * 71 + "sunny") is None
        assert read_prompt(tokenizer, text).spans[2] == (2, 7)


def test_it_works_in_the_negative_prompt_and_changes_the_picture_s_noise(v1):
    x, t = torch.ones(2, 4, 8, 8), torch.tensor([500, 500])
    with embedding("sunny").attach(v1), torch.no_grad():
        context = torch.cat([encoded(v1, "sunny"), encoded(v1, "cat")])
        eps = v1.apply_model(x, t, context)
    with torch.no_grad():
        plain = v1.apply_model(x, t, torch.cat([encoded(v1, "sunny"), encoded(v1, "cat")]))
    assert not torch.allclose(eps[0], plain[0])
    assert torch.equal(eps[1], plain[1])


def test_the_scale_multiplies_the_vectors_and_may_change(v1):
    made = embedding("sunny", 1)
    expected = by_hand(v1, "x", 0.5 * made.vectors)
    with made.attach(v1) as handle:
        handle.scale = 0.5
        assert torch.equal(encoded(v1, "sunny"), expected)
        with pytest.raises(UserError, match="expected a number"):
            handle.scale = lambda moment: 0.5


def test_sd2_s_text_encoder_takes_its_own_width(v2):
    made = embedding("sunny", 2)
    plain = encoded(v2, "a sunny cat")
    with made.attach(v2):
        attached = encoded(v2, "a sunny cat")
        vector = v2.cond_stage_model.model.encode(v2.cond_stage_model.tokens("a sunny cat"))
    assert torch.equal(attached[:, :2], plain[:, :2])
    assert not torch.allclose(attached[:, 2:], plain[:, 2:])
    # The pooled embedding is still that of the end token.
    states = v2.cond_stage_model.model
    expected = encoded_last(v2, attached_ids=5, made=made) @ states.text_projection
    assert torch.allclose(vector, expected, atol=1e-6)
    assert torch.equal(encoded(v2, "a sunny cat"), plain)


def encoded_last(model, attached_ids, made):
    with made.attach(model), torch.no_grad():
        tower = model.cond_stage_model.model
        return tower(model.cond_stage_model.tokens("a sunny cat"))[:, attached_ids]


@pytest.mark.parametrize("width", [768, 1024, 31])
def test_another_width_is_refused_in_one_line(v1, width, tmp_path):
    path = files.write_a1111(tmp_path / "wide.pt", files.vectors(1, width))
    with pytest.raises(UserError, match="wide.pt' is made for") as caught:
        read_embedding(path).attach(v1)
    assert "\n" not in str(caught.value)


def test_sdxl_s_is_refused_by_its_name(v1, tmp_path):
    torch.save({"clip_l": files.vectors(), "clip_g": files.vectors()}, tmp_path / "xl.pt")
    with pytest.raises(UserError, match="made for SDXL"):
        read_embedding(tmp_path / "xl.pt").attach(v1)


def test_one_that_is_longer_than_a_prompt_and_a_second_of_a_name_are_refused(v1):
    with pytest.raises(UserError, match="has 76 vectors; the text encoder takes 75 tokens"):
        embedding("long", 76).attach(v1)
    with embedding("sunny").attach(v1):
        with pytest.raises(UserError, match="both called by 'Sunny'"):
            embedding("Sunny").attach(v1)
        assert len(v1.cond_stage_model.tokenizer.encode("sunny")) == 2
    embedding("Sunny").attach(v1).detach()


def test_a_text_encoder_without_such_a_table_is_refused(v1):
    class Plain(torch.nn.Module):
        pass

    model = Plain()
    model.model, model.cond_stage_model = v1.model, Plain()
    with pytest.raises(UserError, match="Plain was given an embedding"):
        embedding("sunny").attach(model)
