"""Words that a model never learned are named; those that it did, and what is no word, are not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from ldm.data.demo.scene_captions import caption_words
from ldm.data.demo.scenes import SceneDataset
from ldm.errors import UserError
from ldm.pipelines.adapter_plan import AdapterPlan, PlannedEmbedding, PlannedLora
from ldm.pipelines.known_words import EMPTY, notices_on_words, unknown_words
from ldm.pipelines.model_entries import known_words_of, sampling_of
from ldm.pipelines.models import DEMO_CHECKPOINT, DEMO_CONFIG, find, find_model
from ldm.pipelines.request import prepare
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.swap import SwapSettings


@pytest.fixture(scope="module")
def demo():
    return find_model(Txt2ImgSettings(ckpt=DEMO_CHECKPOINT))


def told(demo, **settings):
    return texts_of(prepare(Txt2ImgSettings(**settings), demo))


def texts_of(request):
    """Return what is said, all of it as warnings."""
    notices = list(notices_on_words(request))
    assert all(each.warning for each in notices)
    return [each.text for each in notices]


def test_the_bundled_model_lists_the_words_of_its_captions_no_more_and_no_less(demo):
    assert sorted(demo.knows) == sorted(caption_words())


@pytest.mark.parametrize("language", ["en", "ja"])
def test_no_caption_of_the_training_has_an_unknown_word(demo, language):
    data = SceneDataset(length=400, seed=3, languages=(language,))
    captions = [data.scene(number).caption for number in range(400)]
    assert not [each for each in captions if unknown_words(demo, each)]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a castle in the style of Monet", ["in", "style", "Monet"]),
        ("A Photo of a CAT, 2 dogs & a café", ["dogs", "café"]),
        ("a palm and a palm tree", ["palm"]),
        ("light blue, light and blue", ["light"]),
        ("a Monet by Monet's monet", ["Monet", "by", "Monet's", "monet"]),
        ("<lora:ink:0.8> a cat <sks>", []),
        ("赤い背景の馬と電車の写真", ["電"]),
        ("a cat 猫 侍", ["侍"]),
        ("", []),
    ],
)
def test_words_that_are_not_known_are_named_once_in_order(demo, prompt, words):
    assert unknown_words(demo, prompt) == words
    assert unknown_words(replace(demo, knows=()), prompt) == []


@pytest.mark.parametrize(
    ("syntax", "prompt"),
    [
        ("a1111", "a (red:1.3) apple BREAK a [blue:green:0.5] background AND a cat"),
        ("compel", '("a cat", "a dog").blend(1, 0.5) withLora(ink, 0.8)'),
    ],
)
def test_grammar_is_no_word(demo, syntax, prompt):
    assert unknown_words(demo, prompt, syntax) == []


def test_one_notice_names_the_words_of_all_prompts_of_a_run(demo):
    (text,) = told(demo, prompt="a cat in Paris", negative_prompt="blurry")
    assert "does not know: in, Paris, blurry;" in text
    edit = SwapSettings(sprompt="a zebra", prompt="a cat", is_swap=True)
    assert "does not know: zebra;" in texts_of(prepare(edit, demo))[0]
    assert told(demo, prompt="a cat") == []


def test_a_hundred_unknown_words_are_not_all_listed(demo):
    (text,) = told(
        demo, prompt=" ".join(f"w{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(99))
    )
    assert "and 79 more" in text and len(text) < 300


@pytest.mark.parametrize("prompt", ["", "  ", "\t"])
def test_an_empty_prompt_is_said_for_any_model_unless_a_control_says_what_to_draw(demo, prompt):
    assert told(demo, prompt=prompt) == [EMPTY]
    any_model = replace(demo, knows=())
    request = prepare(Txt2ImgSettings(prompt=prompt), any_model)
    assert texts_of(request) == [EMPTY]
    controlled = AdapterPlan(request.settings, controls=(SimpleNamespace(),))
    assert not list(notices_on_words(replace(request, adapters=controlled)))


def test_embeddings_are_known_by_their_names_and_a_lora_may_have_taught_anything(demo, tmp_path):
    request = prepare(Txt2ImgSettings(prompt="a demo-tangerine in a bowl"), demo)
    settings = request.settings
    embedded = AdapterPlan(
        settings, embeddings=(PlannedEmbedding(tmp_path / "demo-tangerine.safetensors"),)
    )
    (notice,) = notices_on_words(replace(request, adapters=embedded))
    assert "does not know: in, bowl;" in notice.text and notice.unknown == ("in", "bowl")
    taught = AdapterPlan(settings, loras=(PlannedLora(tmp_path / "x", "x", 1.0, 1.0),))
    assert not list(notices_on_words(replace(request, adapters=taught)))


@pytest.mark.parametrize("wrong", ["cat", [], [True], ["cat", " "], {"cat": 1}])
def test_a_yaml_that_lists_no_words_is_refused_in_one_line(wrong):
    with pytest.raises(UserError, match=r"config x\.yaml: knows is .* in quotes"):
        known_words_of(OmegaConf.create({"knows": wrong}), "x.yaml")


def test_a_yaml_may_hold_settings_and_words_or_neither():
    assert (known_words_of(OmegaConf.create({}), "x"), sampling_of(OmegaConf.create({}), "x")) == (
        (),
        {},
    )
    assert sampling_of(OmegaConf.create({"scale": 3}), "x.yaml") == {"scale": 3.0}
    both = OmegaConf.create({"scale": 3, "sampling": {"scale": 4, "steps": 9}})
    assert sampling_of(both, "x.yaml") == {"scale": 4.0, "ddim_steps": 9}
    with pytest.raises(UserError, match=r"config x\.yaml: sampling is 'fast'"):
        sampling_of(OmegaConf.create({"sampling": "fast"}), "x.yaml")
    assert sampling_of(OmegaConf.load(find(DEMO_CONFIG)), DEMO_CONFIG)["scale"] == 3.0
