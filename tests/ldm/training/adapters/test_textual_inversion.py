"""Textual inversion: vectors learn through the frozen text encoder; other programs read them."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from tiny_diffusers import write_tiny_diffusers

from ldm.adapters.textual_inversion import read_embedding
from ldm.config import build
from ldm.errors import UserError

TARGET = "ldm.training.adapters.textual_inversion.TextualInversionTraining"


def adapter(**params):
    return {"target": TARGET, "params": {"name": "<my-cat>", "initializer": "a cat", **params}}


def config(runs, **params):
    config = runs.config(adapter(**params))
    config["data"]["params"]["train"]["params"]["name"] = "<my-cat>"
    return config


@pytest.fixture(scope="module")
def trained(runs):
    assert runs.start("inverted", config(runs, vectors=3)) == 0
    return runs


def vectors(runs):
    return runs.checkpoint("inverted")["state_dict"]["adapter.vectors"]


def test_the_vectors_begin_as_words_and_move(trained):
    hub = build(OmegaConf.create(config(trained, vectors=3)))
    table = trained.weights()[
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    ]
    a, cat = (table[hub.cond_stage_model.tokenizer.encode(word)[0]] for word in ("a", "cat"))
    torch.testing.assert_close(hub.adapter.vectors, torch.stack([a, a, cat]), rtol=0, atol=0)
    assert (vectors(trained) != hub.adapter.vectors).any(1).all()


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_the_file_is_called_by_the_word_and_changes_the_prompt_as_in_training(trained, ending):
    path = trained.run("inverted") / "adapter" / f"my-cat.{ending}"
    assert "my-cat" in read_embedding(path).triggers
    embedding = read_embedding(path, "<my-cat>")
    torch.testing.assert_close(embedding.vectors, vectors(trained), rtol=0, atol=0)
    hub = build(OmegaConf.create(config(trained, vectors=3)))
    with torch.no_grad():
        hub.adapter.vectors.copy_(vectors(trained))
        in_training = hub.get_learned_conditioning(["a photo of <my-cat>"])
        hub.handle.detach()
        with embedding.attach(hub):
            drawn = hub.get_learned_conditioning(["a photo of <my-cat>"])
        plain = hub.get_learned_conditioning(["a photo of <my-cat>"])
    torch.testing.assert_close(drawn, in_training, rtol=0, atol=0)
    assert not torch.equal(plain, drawn)


def test_a1111s_file_says_what_it_was_trained_on(trained):
    content = torch.load(trained.run("inverted") / "adapter" / "my-cat.pt", weights_only=True)
    assert content["step"] == 2
    assert content["sd_checkpoint_name"] == "tiny.safetensors"
    assert len(content["sd_checkpoint"]) == 10


def test_diffusers_takes_the_file(trained, tmp_path):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(
        write_tiny_diffusers(tmp_path), safety_checker=None
    )
    pipe.load_textual_inversion(str(trained.run("inverted") / "adapter" / "my-cat.safetensors"))
    ids = [pipe.tokenizer.convert_tokens_to_ids(f"<my-cat>{end}") for end in ("", "_1", "_2")]
    theirs = pipe.text_encoder.get_input_embeddings().weight[ids]
    torch.testing.assert_close(theirs, vectors(trained), rtol=0, atol=0)


@pytest.mark.parametrize(
    "wrong", [{"vectors": 0}, {"vectors": 76}, {"name": " "}, {"forms": ["x"]}]
)
def test_what_is_no_embedding_is_refused(runs, wrong):
    with pytest.raises(UserError, match=str(next(iter(wrong)))):
        build(OmegaConf.create(config(runs, **wrong)))


def test_captions_without_the_word_are_told(runs, capsys):
    wrong = config(runs)
    wrong["data"]["params"]["train"]["params"]["name"] = "a dog"
    assert runs.start("wordless", wrong) == 2
    assert "no caption of the first batch has the word '<my-cat>'" in capsys.readouterr().err


def test_a_batch_whose_captions_are_all_left_out_teaches_nothing_and_is_no_error(runs):
    hub = build(OmegaConf.create(runs.config(adapter(), cond_dropout=1.0)))
    loss, _ = hub.shared_step({"jpg": torch.rand(2, 16, 16, 3), "txt": ["<my-cat>"] * 2})
    loss.backward()
    assert not hub.adapter.vectors.grad.any()
