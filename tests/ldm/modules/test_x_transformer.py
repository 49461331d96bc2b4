"""The transformer behind BERTEmbedder, against its formula written out."""

from __future__ import annotations

import pytest
import torch
from golden.fill import official_state
from torch.nn.functional import gelu, layer_norm

from ldm.modules.x_transformer import Encoder, TransformerWrapper

DIM, DEPTH, HEADS, HEAD_WIDTH = 24, 3, 4, 5


def build(**options) -> TransformerWrapper:
    encoder = Encoder(dim=DIM, depth=DEPTH, heads=HEADS, attn_dim_head=HEAD_WIDTH)
    model = TransformerWrapper(num_tokens=11, max_seq_len=9, attn_layers=encoder, **options)
    model.load_state_dict(official_state(model))
    return model.eval()


def tokens(length: int = 7) -> torch.Tensor:
    return torch.randint(11, (2, length), generator=torch.Generator().manual_seed(0))


def normed(x, weights, name):
    return layer_norm(x, (DIM,), weights[f"{name}.weight"], weights[f"{name}.bias"])


def attended(x, weights, name):
    """One head after the other, one query after the other."""
    q, k, v = (x @ weights[f"{name}.to_{which}.weight"].T for which in "qkv")
    out = torch.zeros_like(q)
    for row in range(x.shape[0]):
        for head in range(HEADS):
            part = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
            for place in range(x.shape[1]):
                scores = k[row, :, part] @ q[row, place, part] / HEAD_WIDTH**0.5
                out[row, place, part] = scores.softmax(0) @ v[row, :, part]
    return out @ weights[f"{name}.to_out.weight"].T + weights[f"{name}.to_out.bias"]


def fed_forward(x, weights, name):
    inner = gelu(x @ weights[f"{name}.net.0.0.weight"].T + weights[f"{name}.net.0.0.bias"])
    return inner @ weights[f"{name}.net.2.weight"].T + weights[f"{name}.net.2.bias"]


@torch.no_grad()
def test_states_and_logits_follow_the_formula():
    model, x = build(), tokens()
    weights = {name: value.double() for name, value in model.state_dict().items()}
    places = weights["pos_emb.emb.weight"][: x.shape[1]]
    states = weights["token_emb.weight"][x] + places
    for pair in range(DEPTH):
        first, second = (f"attn_layers.layers.{2 * pair + i}" for i in (0, 1))
        states = states + attended(normed(states, weights, f"{first}.0"), weights, f"{first}.1")
        states = states + fed_forward(
            normed(states, weights, f"{second}.0"), weights, f"{second}.1"
        )
    states = normed(states, weights, "norm")
    logits = states @ weights["to_logits.weight"].T + weights["to_logits.bias"]
    # float32 against float64
    assert torch.allclose(model(x, return_embeddings=True).double(), states, rtol=1e-5, atol=1e-5)
    assert torch.allclose(model(x).double(), logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_masked_token_is_not_seen_by_the_others():
    model, x = build(), tokens()
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[:, 3] = False
    other = x.clone()
    other[:, 3] = (x[:, 3] + 1) % 11
    seen = [model(rows, return_embeddings=True, mask=mask)[mask] for rows in (x, other)]
    assert torch.allclose(*seen, atol=1e-6)
    unmasked = [model(rows, return_embeddings=True)[mask] for rows in (x, other)]
    assert not torch.allclose(*unmasked, atol=1e-3)


def test_every_token_sees_those_after_it():
    model, x = build(), tokens()
    other = x.clone()
    other[:, -1] = (x[:, -1] + 1) % 11
    assert not torch.allclose(model(x)[:, 0], model(other)[:, 0], atol=1e-4)


def test_rows_longer_than_the_positions_are_refused():
    with pytest.raises(ValueError, match="at most 9"):
        build()(tokens(length=10))


def test_dropout_of_embeddings_is_for_training_alone():
    model, x = build(emb_dropout=0.5), tokens()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))
