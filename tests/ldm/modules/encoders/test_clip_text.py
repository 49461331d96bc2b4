"""The text transformer against transformers' CLIPTextModel on the same random weights."""

from __future__ import annotations

import pytest
import torch

from ldm.modules.encoders.clip_text import CLIPTextConfig, CLIPTextModel

SMALL = {
    "vocab_size": 1000,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
}


def build(**changes) -> CLIPTextModel:
    torch.manual_seed(0)
    return CLIPTextModel(CLIPTextConfig(**{**SMALL, **changes})).eval()


def token_ids(batch: int = 2, length: int = 77) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, SMALL["vocab_size"], (batch, length), generator=generator)


@torch.no_grad()
def widen(model: CLIPTextModel) -> None:
    """Make every weight matter: the initial ones leave attention nearly uniform, biases zero."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def test_a_token_sees_only_those_before_it():
    model, ids = build(), token_ids()
    changed = ids.clone()
    changed[:, 40] = (ids[:, 40] + 1) % SMALL["vocab_size"]
    with torch.no_grad():
        a, b = model(ids).last_hidden_state, model(changed).last_hidden_state
    assert torch.equal(a[:, :40], b[:, :40])
    assert not torch.allclose(a[:, 40:], b[:, 40:])


def test_rows_of_a_batch_do_not_see_each_other():
    model, ids = build(), token_ids()
    with torch.no_grad():
        both = model(ids).last_hidden_state
        alone = model(ids[:1]).last_hidden_state
    torch.testing.assert_close(both[:1], alone, rtol=0, atol=1e-5)


def test_the_output_is_layer_normalised():
    with torch.no_grad():
        out = build()(token_ids()).last_hidden_state
    torch.testing.assert_close(out.mean(-1), torch.zeros(2, 77), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.var(-1, unbiased=False), torch.ones(2, 77), rtol=0, atol=1e-2)


def test_the_default_sizes_have_the_checkpoint_names_and_shapes_of_sd_v1():
    with torch.device("meta"):
        state = CLIPTextModel().state_dict()
    assert len(state) == 196
    assert state["text_model.embeddings.token_embedding.weight"].shape == (49408, 768)
    assert state["text_model.embeddings.position_embedding.weight"].shape == (77, 768)
    assert state["text_model.encoder.layers.11.mlp.fc1.weight"].shape == (3072, 768)
    assert state["text_model.encoder.layers.11.self_attn.out_proj.bias"].shape == (768,)
    assert state["text_model.final_layer_norm.weight"].shape == (768,)


def test_a_model_built_on_the_meta_device_runs_once_its_weights_are_assigned():
    whole, ids = build(), token_ids()
    with torch.device("meta"):
        empty = CLIPTextModel(CLIPTextConfig(**SMALL))
    empty.load_state_dict(whole.state_dict(), assign=True)
    with torch.no_grad():
        assert torch.equal(empty(ids).last_hidden_state, whole(ids).last_hidden_state)


@torch.no_grad()
def test_the_initial_weights_have_the_spread_clip_trains_from():
    layer = build(hidden_size=256, num_hidden_layers=2).text_model.encoder.layers[0]
    embeddings = build().text_model.embeddings
    assert embeddings.token_embedding.weight.std() == pytest.approx(0.02, rel=0.05)
    assert embeddings.position_embedding.weight.std() == pytest.approx(0.02, rel=0.05)
    assert layer.self_attn.q_proj.weight.std() == pytest.approx(1 / 16 / 2, rel=0.05)
    assert layer.self_attn.out_proj.weight.std() == pytest.approx(1 / 16, rel=0.05)
    assert layer.mlp.fc1.weight.std() == pytest.approx(512**-0.5, rel=0.05)
    assert layer.mlp.fc2.weight.std() == pytest.approx(1 / 16 / 2, rel=0.05)
    assert layer.mlp.fc1.bias.abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_near_float32(dtype):
    model, ids = build(), token_ids()
    with torch.no_grad():
        expected = model(ids).last_hidden_state
        out = model.to(dtype)(ids).last_hidden_state
    assert out.dtype == dtype
    assert (out.float() - expected).norm() / expected.norm() < 0.03


def test_gradients_reach_every_weight_that_was_used():
    model = build().train()
    model(token_ids()).last_hidden_state[..., 0].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_too_many_tokens_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match="78.*77"):
        build()(token_ids(length=78))


@pytest.mark.parametrize("bad", [{"hidden_act": "relu6"}, {"num_attention_heads": 7}])
def test_sizes_that_do_not_go_together_are_refused(bad):
    with pytest.raises(ValueError, match="hidden_act|num_attention_heads"):
        CLIPTextConfig(**{**SMALL, **bad})


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_hidden_states_equal_those_of_transformers(act):
    transformers = pytest.importorskip("transformers")
    model, ids = build(hidden_act=act), token_ids()
    widen(model)
    config = transformers.CLIPTextConfig(**SMALL, hidden_act=act)
    peer = transformers.CLIPTextModel(config).eval()
    state = model.state_dict()
    if not hasattr(peer, "text_model"):  # transformers dropped the prefix in 5.6
        state = {key.removeprefix("text_model."): value for key, value in state.items()}
    peer.load_state_dict(state, strict=True)
    with torch.no_grad():
        expected = peer(ids).last_hidden_state
        out = model(ids).last_hidden_state
    assert ((out - expected).norm() / expected.norm()).item() < 1e-6
