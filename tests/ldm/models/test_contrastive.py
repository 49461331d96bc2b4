"""Text and picture towers that learn to agree."""

from __future__ import annotations

import math

import pytest
import torch

from ldm.models.contrastive import LARGEST_SCALE, ContrastiveTextImage
from ldm.modules.encoders.modules import FrozenCLIPEmbedder

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "embedding_std": 0.5,
}
ENCODER = "ldm.modules.encoders.modules.FrozenCLIPEmbedder"
CORNERS = {"north": (0, 0), "east": (0, 16), "south": (16, 0), "west": (16, 16)}


def make_model(trainable: bool = True) -> ContrastiveTextImage:
    torch.manual_seed(0)
    params = {"trainable": trainable, "text_config": SIZES, "max_length": 16}
    return ContrastiveTextImage({"target": ENCODER, "params": params}, image_size=32, embed_dim=16)


def corner_batch() -> dict:
    """Return four black pictures with one white corner each, and what they show."""
    pictures = torch.full((4, 32, 32, 3), -1.0)
    for picture, (top, left) in zip(pictures, CORNERS.values(), strict=True):
        picture[top : top + 16, left : left + 16] = 1.0
    return {"jpg": pictures, "txt": [f"the {name}" for name in CORNERS]}


def test_both_towers_give_unit_vectors_of_one_width():
    model, batch = make_model(), corner_batch()
    text = model.encode_text(batch["txt"])
    pictures = model.encode_pictures(batch["jpg"].movedim(-1, 1))
    assert text.shape == pictures.shape == (4, 16)
    for vectors in (text, pictures):
        assert torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=1e-5)


def test_the_loss_is_the_symmetric_cross_entropy_of_the_similarities():
    model, batch = make_model(), corner_batch()
    x = batch["jpg"].movedim(-1, 1)
    loss, logs = model(x, batch["txt"])
    likeness = model.encode_pictures(x) @ model.encode_text(batch["txt"]).T / 0.07
    rows = torch.stack([-likeness.log_softmax(dim).diagonal() for dim in (0, 1)])
    assert loss.item() == pytest.approx(rows.mean().item(), rel=1e-5)
    assert logs["scale"].item() == pytest.approx(1 / 0.07, rel=1e-5)


def test_padding_beyond_the_end_token_is_part_of_the_summary():
    model = make_model()
    table = model.cond_stage_model.transformer.text_model.embeddings.position_embedding.weight
    before = model.encode_text(["a cat"])
    with torch.no_grad():
        table[15] += torch.linspace(-5, 5, 32)  # only the last padding token stands there
    assert not torch.allclose(before, model.encode_text(["a cat"]), atol=1e-3)


def test_a_few_steps_tell_four_corners_apart():
    model, batch = make_model(), corner_batch()
    model.learning_rate = 3e-3
    optimizer = model.configure_optimizers()
    first = model.validation_figures(batch)["val/loss"].item()
    for step in range(60):
        loss = model.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    logs = model.validation_figures(batch)
    assert logs["val/accuracy"].item() == 1.0
    assert logs["val/loss"].item() < 0.3 * first


def test_the_scale_stops_growing_at_clips_limit():
    model, batch = make_model(), corner_batch()
    with torch.no_grad():
        model.logit_scale.fill_(math.log(1000.0))
    assert model.validation_figures(batch)["val/scale"].item() == pytest.approx(LARGEST_SCALE)


def test_a_conditioner_starts_from_a_contrastive_checkpoint(tmp_path):
    model = make_model()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": model.state_dict()}, path)
    torch.manual_seed(1)
    conditioner = FrozenCLIPEmbedder(text_config=SIZES, max_length=16, ckpt_path=str(path))
    assert torch.equal(conditioner("a cat"), model.cond_stage_model("a cat"))
    assert not any(p.requires_grad for p in conditioner.parameters())
