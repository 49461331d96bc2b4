"""What draws with a kind of model: the conditioning that its prompts become."""

from __future__ import annotations

import dataclasses
import sys
from types import ModuleType

import pytest
import torch
from omegaconf import OmegaConf
from tiny_model import CONFIG

from ldm.pipelines import models
from ldm.pipelines.request import Request
from ldm.pipelines.walks import TextWalk, blend, make_walk
from ldm.settings import model_kind
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.prompt_weights import mixture_of


def fake_encode(texts):
    """Each text by itself: its length and its first letter (texts, 1, 2)."""
    fake_encode.calls.append(list(texts))
    return torch.tensor([[[float(len(text)), float(ord(text[0]))]] for text in texts])


@pytest.fixture(autouse=True)
def no_calls():
    fake_encode.calls = []


def test_encodings_are_summed_by_their_shares_for_every_row_of_a_batch():
    prompts = ["aa:1 bbbb:3", "cc", "bbbb:1 aa:1"]
    mixed = blend([mixture_of(p) for p in prompts], fake_encode)
    a, b, c = (fake_encode([text])[0] for text in ("aa", "bbbb", "cc"))
    assert torch.equal(mixed, torch.stack([0.25 * a + 0.75 * b, c, 0.5 * b + 0.5 * a]))


def test_a_mixture_of_a_text_with_itself_is_the_text():
    twice = blend([mixture_of("aa:1 aa:3")], fake_encode)
    assert torch.equal(twice, fake_encode(["aa"]))


def walk_of(model, settings):
    return TextWalk(Request(settings, None, [settings.prompt]), model, torch.device("cpu"))


@pytest.fixture
def encoding(pipeline, monkeypatch):
    """The tiny model, and the texts that it encodes call by call."""
    model, calls = pipeline.model, []
    encode = model.get_learned_conditioning
    note = lambda texts: calls.append(list(texts)) or encode(texts)  # noqa: E731
    monkeypatch.setattr(model, "get_learned_conditioning", note)
    return model, calls


def test_a_batch_without_mixtures_is_encoded_in_one_call_as_it_stands(encoding):
    model, calls = encoding
    settings = LowMemoryTxt2ImgSettings(H=16, W=16, C=4, f=2, scale=1.0)
    given = walk_of(model, settings).condition(["aa", "b: c", "aa"])
    assert calls == [["aa", "b: c", "aa"]]
    assert given["cond"].shape[0] == 3 and "unconditional_conditioning" not in given


def test_guidance_steers_away_from_the_negative_prompt_in_every_row(encoding):
    model, calls = encoding
    settings = Txt2ImgSettings(H=16, W=16, C=4, f=2, scale=3.0, negative_prompt="dull")
    given = walk_of(model, settings).condition(["a", "b"])
    assert sorted(calls) == [["a", "b"], ["dull", "dull"]]
    assert given["unconditional_guidance_scale"] == 3.0
    away = given["unconditional_conditioning"]
    assert torch.equal(away, model.get_learned_conditioning(["dull"] * 2))


def test_a_kind_of_model_of_ones_own_needs_one_class_and_one_entry(pipeline, monkeypatch, tmp_path):
    """Recognised by its configuration, and drawn with by the class that its entry names."""

    class OneText(TextWalk):
        """Draws one text, whatever is asked."""

        def condition(self, prompts):
            return super().condition(["always this"] * len(prompts))

    own = ModuleType("own_kind")
    own.OneText = OneText
    monkeypatch.setitem(sys.modules, "own_kind", own)
    kind = model_kind.ModelKind(
        name="one text",
        recognises=lambda facts: facts.sees_latents_alone and facts.conditioning_key == "own",
        walks={"text": "own_kind.OneText"},
        what="a model of one text",
        program="scripts/txt2img.py",
    )
    monkeypatch.setattr(model_kind, "KINDS", [kind, *model_kind.KINDS])
    monkeypatch.setattr(models, "KINDS", model_kind.KINDS)
    own_key = {"model": {"params": {"conditioning_key": "own"}}}
    config = OmegaConf.merge(OmegaConf.create(CONFIG), own_key)
    OmegaConf.save(config, tmp_path / "own.yaml")
    (tmp_path / "own.safetensors").write_bytes(b"weights")
    choice = models.find_model(Txt2ImgSettings(ckpt=str(tmp_path / "own.safetensors")))
    assert choice.kind is kind
    without_text = dataclasses.replace(kind, takes_text=False)
    textless = dataclasses.replace(choice, kind=without_text)
    assert choice.size == models.resolve(Txt2ImgSettings(prompt="", scale=1.0), textless).H
    request = Request(Txt2ImgSettings(H=16, W=16, C=4, f=2), choice, ["a cat"])
    walk = make_walk(request, pipeline.model, pipeline.device)
    other = walk_of(pipeline.model, request.settings).condition(["always this"])
    assert torch.equal(walk.condition(["a cat"])["cond"], other["cond"])
