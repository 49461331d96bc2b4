"""The options of the tokens' transformer, each by what it changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldm.errors import UserError
from ldm.modules import x_transformer as x_t
from ldm.modules.attention_processors import set_attention_processor
from ldm.modules.x_transformer import (
    Attention,
    AttentionLayers,
    Encoder,
    FixedPositionalEmbedding,
    GRUGating,
    Rezero,
    RMSNorm,
    Scale,
    ScaleNorm,
    TransformerWrapper,
)

DIM, HEADS, WIDTH = 16, 2, 5


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def attention(**options) -> Attention:
    return Attention(DIM, WIDTH, HEADS, **options).eval()


def tokens(length: int = 6) -> torch.Tensor:
    return torch.randn(2, length, DIM)


def wrapper(layers=None, **options) -> TransformerWrapper:
    encoder = Encoder(dim=DIM, depth=2, heads=HEADS, **(layers or {}))
    return TransformerWrapper(num_tokens=11, max_seq_len=9, attn_layers=encoder, **options).eval()


def rows(length: int = 6) -> torch.Tensor:
    return torch.randint(11, (2, length))


@pytest.mark.parametrize("options", [{}, {"causal": True}, {"num_mem_kv": 2}, {"on_attn": True}])
def test_the_tables_do_not_change_the_result(options):
    layer, x = attention(**options), tokens()
    plain, nothing = layer(x, tables=False)
    spelt, tables = layer(x)
    assert torch.allclose(plain, spelt, atol=1e-6)
    assert nothing == (None, None)
    assert torch.allclose(tables.post_softmax_attn.sum(-1), torch.ones(()), atol=1e-6)
    assert torch.allclose(tables.pre_softmax_attn.softmax(-1), tables.post_softmax_attn)


@pytest.mark.parametrize("tables", [False, True])
@pytest.mark.parametrize("memories", [0, 3])
def test_a_causal_token_does_not_see_those_after_it(tables, memories):
    layer, x = attention(causal=True, num_mem_kv=memories), tokens()
    other = x.clone()
    other[:, 4:] += 1
    found, again = (layer(a, tables=tables)[0] for a in (x, other))
    assert torch.allclose(found[:, :4], again[:, :4], atol=1e-6)
    assert not torch.allclose(found[:, 4:], again[:, 4:], atol=1e-3)


def test_a_causal_token_sees_all_memories_and_itself():
    seen = attention(causal=True, num_mem_kv=3)(tokens())[1].post_softmax_attn > 0
    assert torch.equal(seen[0, 0], torch.ones(6, 9).tril(3).bool())


def test_only_the_best_keys_are_kept():
    probabilities = attention(sparse_topk=2)(tokens())[1].post_softmax_attn
    assert ((probabilities > 0).sum(-1) == 2).all()


def test_heads_that_talk_are_mixed_before_and_after():
    layer, x = attention(talking_heads=True), tokens()
    before, after = layer(x)[1]
    mixed = torch.einsum("bhij,hk->bkij", before, layer.pre_softmax_proj).softmax(-1)
    assert torch.allclose(mixed, after, atol=1e-6)
    nn.init.eye_(layer.pre_softmax_proj)
    nn.init.eye_(layer.post_softmax_proj)
    layer.talking_heads, expected = False, layer(x)[0]
    assert torch.allclose(layer(x)[0], expected, atol=1e-6)


def test_context_masks_and_memories_decide_what_is_seen():
    layer, x, context = attention(), tokens(), tokens(4)
    seen = torch.tensor([[True, True, False, True]] * 2)
    other = context.clone()
    other[:, 2] += 1
    found = [layer(x, context=c, context_mask=seen)[0] for c in (context, other)]
    assert torch.allclose(*found, atol=1e-6)
    joined = layer(x, context=torch.cat([context, x], 1))[0]
    assert torch.allclose(layer(x, mem=context)[0], joined, atol=1e-6)
    mask = torch.ones(2, 6, dtype=torch.bool)
    assert torch.allclose(layer(x, mem=context, mask=mask)[0], joined, atol=1e-6)


def test_a_query_that_is_no_token_reads_the_mean_of_all_values():
    layer, x = attention(), tokens()
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[:, 3] = False
    out, tables = layer(x, mask=mask)
    assert torch.allclose(out[:, 3], layer.to_out(layer.to_v(x).mean(1)), atol=1e-6)
    assert (tables.post_softmax_attn[:, :, :3, 3] == 0).all()


def test_places_are_added_to_queries_and_keys_and_not_to_values():
    layer, x = attention(), tokens().new_zeros(1, 6, DIM)
    x += torch.randn(DIM)
    plain, placed = (layer(x, sinusoidal_emb=e)[0] for e in (None, FixedPositionalEmbedding(DIM)))
    assert torch.allclose(plain, placed, atol=1e-6)  # equal values: weights do not matter
    # Memories stand at the first places, the row after them.
    places, memory, row = FixedPositionalEmbedding(DIM), tokens(4), tokens()
    joined = layer(torch.cat([memory, row], 1), sinusoidal_emb=places)[0][:, 4:]
    assert torch.allclose(layer(row, mem=memory, sinusoidal_emb=places)[0], joined, atol=1e-6)
    waves = FixedPositionalEmbedding(4)(torch.zeros(1, 3, 4), offset=5)
    assert waves[0, 2].tolist() == pytest.approx(
        [*torch.tensor([7.0, 0.07]).sin().tolist(), *torch.tensor([7.0, 0.07]).cos().tolist()]
    )


@pytest.mark.parametrize("norm", [ScaleNorm, RMSNorm])
def test_norms_give_tokens_the_same_length(norm):
    x = tokens() * torch.tensor([1e-3, 30.0])[:, None, None]
    lengths = norm(DIM)(x).norm(dim=-1)
    assert torch.allclose(lengths, torch.full_like(lengths, DIM**0.5), rtol=1e-4)
    assert norm(DIM).g.shape == ((1,) if norm is ScaleNorm else (DIM,))
    assert norm(DIM)(torch.zeros(1, 1, DIM)).abs().sum() == 0


def test_scaling_takes_tensors_and_pairs():
    x = tokens()
    assert torch.equal(Scale(0.5, nn.Identity())(x), x * 0.5)
    out, tables = Rezero(attention())(x)
    assert out.abs().sum() == 0 and tables.post_softmax_attn is not None


def test_a_gate_joins_each_token_by_itself():
    gate, x, before = GRUGating(DIM), tokens(), tokens()
    found = gate(x, before)
    assert torch.allclose(found[1, 2], gate.gru(x[1, 2], before[1, 2]), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "afafaf"),
        ({"cross_attend": True}, "acfacfacf"),
        ({"cross_attend": True, "only_cross": True}, "cfcfcf"),
        ({"macaron": True}, "faffaffaf"),
        ({"custom_layers": ("a", "f", "f")}, "aff"),
        ({"sandwich_coef": 1}, "aafaff"),
        ({"par_ratio": 3}, "affaff"),
    ],
)
def test_layers_stand_in_the_order_that_options_say(options, expected):
    layers = AttentionLayers(DIM, 3, HEADS, **options)
    assert "".join(layers.layer_types) == expected
    assert layers.num_attn_layers == expected.count("a")
    cross = {"context": tokens(3)} if "c" in expected else {}
    assert layers(tokens(), **cross).shape == (2, 6, DIM)


@pytest.mark.parametrize(
    "options",
    [
        {"sandwich_coef": 4},
        {"par_ratio": 1},
        {"par_ratio": 7},
        {"custom_layers": ("x",)},
        {"rel_pos_num_buckets": 129},
    ],
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(UserError):
        AttentionLayers(DIM, 3, HEADS, **options)


@pytest.mark.parametrize(
    ("options", "kind"),
    [({}, nn.LayerNorm), ({"use_scalenorm": True}, ScaleNorm), ({"use_rmsnorm": True}, RMSNorm)],
)
def test_the_norm_stands_before_each_layer_or_after_all_but_the_last(options, kind):
    before = AttentionLayers(DIM, 2, HEADS, **options)
    assert all(type(norm) is kind for norm, _, _ in before.layers)
    calls = []
    after = AttentionLayers(DIM, 2, HEADS, pre_norm=False, **options)
    for index, (norm, _, _) in enumerate(after.layers):
        norm.register_forward_hook(lambda *_, index=index: calls.append(index))
    after(tokens())
    assert calls == [0, 1, 2]


def test_rezero_begins_as_the_feed_forwards_alone():
    layers, x = AttentionLayers(DIM, 2, HEADS, use_rezero=True), tokens()
    expected = x
    for norm, layer, _ in layers.layers[1::2]:
        expected = expected + layer(norm(expected))
    assert torch.allclose(layers(x), expected, atol=1e-6)


def test_prefixes_reach_their_layers():
    layers = AttentionLayers(DIM, 1, HEADS, attn_dim_head=3, ff_mult=2, ff_glu=True)
    (_, attends, _), (_, feeds, _) = layers.layers
    assert attends.to_q.weight.shape == (HEADS * 3, DIM)
    assert feeds.net[0].proj.weight.shape == (4 * DIM, DIM)
    with pytest.raises(UserError, match="causal"):
        Encoder(dim=DIM, depth=1, causal=True)


@pytest.mark.parametrize("kind", ["residual_attn", "cross_residual_attn"])
def test_scores_are_added_to_those_of_the_next_attention(kind):
    options = {"cross_attend": True, "only_cross": True} if "cross" in kind else {}
    plain = AttentionLayers(DIM, 2, HEADS, **options)
    added = AttentionLayers(DIM, 2, HEADS, **options, **{kind: True})
    added.load_state_dict(plain.state_dict())
    given = {"context": tokens(3)} if "cross" in kind else {}
    x = tokens()
    first, second = added(x, **given, return_hiddens=True)[1].attn_intermediates
    alone = plain(x, **given, return_hiddens=True)[1].attn_intermediates[1]
    assert torch.allclose(
        second.pre_softmax_attn, alone.pre_softmax_attn + first.pre_softmax_attn, atol=1e-5
    )
    assert torch.allclose(added(x, **given), added(x, **given, return_hiddens=True)[0], atol=1e-6)


def test_a_processor_is_asked_unless_tables_are():
    model, asked = wrapper(), []

    def processor(q, k, v, *, mask, scale):
        asked.append(q.shape)
        return v

    set_attention_processor(model, processor)
    model(rows())
    assert len(asked) == 2
    out, maps = model(rows(), return_attn=True)
    assert len(asked) == 2 and [m.shape for m in maps] == [(2, HEADS, 6, 6)] * 2


def test_rows_remember_the_states_of_the_row_before():
    model, x = wrapper(max_mem_len=3), rows()
    out, memories = model(x, return_mems=True)
    assert [m.shape for m in memories] == [(2, 3, DIM)] * 2
    assert not any(m.requires_grad for m in memories)
    again, longer = model(x, return_mems=True, mems=memories)
    assert not torch.allclose(out, again, atol=1e-4)
    assert [m.shape for m in longer] == [(2, 3, DIM)] * 2


@pytest.mark.parametrize(
    ("options", "key", "shape"),
    [
        ({"emb_dim": 6}, "project_emb.weight", (DIM, 6)),
        ({"num_memory_tokens": 2}, "memory_tokens", (2, DIM)),
        ({"tie_embedding": True}, "to_logits.weight", None),
        ({"use_pos_emb": False}, "pos_emb.emb.weight", None),
    ],
)
def test_options_of_the_wrapper_are_seen_in_its_keys_and_keep_the_size(options, key, shape):
    model = wrapper(**options)
    found = model.state_dict().get(key)
    assert (None if found is None else tuple(found.shape)) == shape
    mask = torch.tensor([[True] * 5 + [False]] * 2)
    assert model(rows(), mask=mask).shape == (2, 6, 11)


def test_without_places_the_order_of_tokens_does_not_matter():
    x, order = rows(), torch.tensor([3, 1, 5, 0, 2, 4])
    model = wrapper(use_pos_emb=False)
    assert torch.allclose(model(x)[:, order], model(x[:, order]), atol=1e-5)
    infused = wrapper({"position_infused_attn": True})
    assert not torch.allclose(infused(x)[:, order], infused(x[:, order]), atol=1e-3)


def test_tied_logits_are_read_off_the_embeddings():
    model, x = wrapper(tie_embedding=True), rows()
    states = model(x, return_embeddings=True)
    assert torch.equal(model(x), states @ model.token_emb.weight.T)


def test_layers_of_another_kind_are_refused():
    with pytest.raises(UserError, match="Linear; expected AttentionLayers"):
        TransformerWrapper(num_tokens=3, max_seq_len=3, attn_layers=nn.Linear(3, 3))
    with pytest.raises(NotImplementedError):
        attention(use_entmax15=True)


def test_keywords_are_sorted_by_their_prefix():
    given = {"ff_mult": 2, "ff_ff_": 3, "attn_dim": 4}
    assert x_t.groupby_prefix_and_trim("ff_", given) == ({"mult": 2, "ff_": 3}, {"attn_dim": 4})
    assert x_t.group_by_key_prefix("attn", given)[0] == {"attn_dim": 4}
    assert x_t.group_dict_by_key(x_t.not_equals("attn_dim"), given)[1] == {"attn_dim": 4}
    assert x_t.pick_and_pop(["ff_mult"], given) == {"ff_mult": 2} and "ff_mult" not in given
    assert x_t.always(7)(1, b=2) == 7 and x_t.equals(3)(3) and not x_t.equals(3)(4)
    assert x_t.string_begins_with("at", "attn") and not x_t.string_begins_with("tn", "attn")
