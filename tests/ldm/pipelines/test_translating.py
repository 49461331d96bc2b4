"""When prompts are translated, and what becomes of the settings."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from ldm.errors import UserError
from ldm.pipelines.model_entries import languages_of
from ldm.pipelines.models import DEMO_CONFIG, find
from ldm.pipelines.original_prompts import original_entries, recorded_language
from ldm.pipelines.progress import notices_on_language
from ldm.pipelines.translating import in_models_language
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.swap import SwapSettings

JAPANESE = "ldm.modules.encoders.modules.FrozenJapaneseCLIPEmbedder"


def test_a_japanese_prompt_is_translated_for_a_model_that_reads_english_alone():
    settings = Txt2ImgSettings(prompt="赤い猫", negative_prompt="低画質")
    english, prompts = in_models_language(settings, ["赤い猫", "a dog"], ["en"])
    assert prompts == ["a red cat", "a dog"]
    assert (english.prompt, english.negative_prompt) == ("a red cat", "low quality")
    said = [notice.text for notice in notices_on_language(english)]
    assert said[0] == "Drawn in English: 'a red cat' for '赤い猫'" and len(said) == 2
    again, _ = in_models_language(english, prompts, ["en"])
    assert again == english


@pytest.mark.parametrize(("lang", "reads"), [("auto", ["en", "ja"]), ("ja", ["ja"])])
def test_a_model_that_reads_japanese_gets_what_was_typed(lang, reads):
    settings = Txt2ImgSettings(prompt="赤い猫", prompt_lang=lang)
    assert in_models_language(settings, ["赤い猫"], reads) == (settings, ["赤い猫"])


def test_ja_translates_also_for_a_model_that_reads_both_languages():
    settings = Txt2ImgSettings(prompt="ねこの絵を描いてください", prompt_lang="ja")
    _, prompts = in_models_language(settings, [settings.prompt], ["en", "ja"])
    assert prompts == ["a painting of a cat"]


@pytest.mark.parametrize(("lang", "warnings"), [("en", 1), ("none", 0)])
def test_prompts_are_drawn_as_typed_on_request(lang, warnings):
    settings = Txt2ImgSettings(prompt="赤い猫", prompt_lang=lang)
    typed, prompts = in_models_language(settings, ["赤い猫"], ["en"])
    assert prompts == ["赤い猫"] and typed.prompt == "赤い猫"
    assert len(list(notices_on_language(typed))) == warnings


def test_unknown_words_are_a_warning_and_with_ja_an_error():
    settings = Txt2ImgSettings(prompt="ヌヌヌの猫")
    english, prompts = in_models_language(settings, ["ヌヌヌの猫"], ["en"])
    assert prompts == ["a cat"]
    assert any("'ヌヌヌ'" in n.text and n.warning for n in notices_on_language(english))
    strict = Txt2ImgSettings(prompt="ヌヌヌの猫", prompt_lang="ja")
    with pytest.raises(UserError, match="'ヌヌヌ'"):
        in_models_language(strict, ["ヌヌヌの猫"], ["en"])


def test_each_prompt_is_translated_by_its_own_language():
    settings = Txt2ImgSettings(prompt="藍色背景的貓", negative_prompt="低画質な絵")
    typed = ["藍色背景的貓", "赤い猫", "山", "a dog"]
    english, prompts = in_models_language(settings, typed, ["en", "ja"])
    assert prompts == ["a cat on a blue background", *typed[1:]]
    assert (english.prompt, english.negative_prompt) == (prompts[0], "低画質な絵")
    assert original_entries(english) == {"Original prompt": typed[0]}
    _, prompts = in_models_language(settings, typed, ["en"])
    assert prompts == ["a cat on a blue background", "a red cat", "a mountain", "a dog"]
    assert in_models_language(settings, typed[:1], ["zh", "ja"]) == (settings, typed[:1])


def test_a_language_that_is_said_is_that_of_every_prompt():
    settings = Txt2ImgSettings(prompt="汽車", prompt_lang="zh")
    assert in_models_language(settings, ["汽車"], ["en", "ja"])[1] == ["a car"]
    assert in_models_language(settings, ["汽車"], ["zh"]) == (settings, ["汽車"])
    strict = Txt2ImgSettings(prompt="龘齉的貓", prompt_lang="zh")
    with pytest.raises(UserError, match="--prompt_lang zh was given, .*'龘齉'"):
        in_models_language(strict, ["龘齉的貓"], ["en"])
    loud = Txt2ImgSettings(prompt="貓", prompt_lang="en")
    (notice,) = notices_on_language(in_models_language(loud, ["貓"], ["en", "ja"])[0])
    assert "Chinese letters" in notice.text


def test_a_chinese_translation_model_gets_chinese_phrases_alone(tmp_path, monkeypatch):
    for name in ("config.json", "source.spm", "model.safetensors"):
        (tmp_path / name).touch()
    (tmp_path / "tokenizer_config.json").write_text('{"source_lang": "zho"}')
    monkeypatch.setattr("ldm.translation.marian.marian", lambda folder: lambda text: "made")
    settings = Txt2ImgSettings(prompt="龘齉的貓", translator=str(tmp_path))
    _, prompts = in_models_language(settings, ["龘齉的貓", "ヌヌヌの猫"], ["en"])
    assert prompts == ["made", "a cat"]


def test_words_of_an_edit_are_in_the_language_of_its_prompt():
    settings = SwapSettings(
        sprompt="一輛汽車和貓",
        prompt="一輛公車和貓",
        is_swap=True,
        blend="汽車|公車",
        reweight="汽車=2",
    )
    english, _ = in_models_language(settings, ["一輛公車和貓"], ["en", "ja"])
    assert english.drawn_prompts == ("a car and a cat", "a bus and a cat")
    assert english.blend == "car|bus" and english.reweight == "car=2"


def test_the_prompts_and_words_of_an_edit_are_translated_alike():
    settings = SwapSettings(
        sprompt="赤い猫",
        prompt="赤い犬",
        also=("赤い馬",),
        is_swap=True,
        reweight="赤い=2,犬=-1",
        cross_replace_steps="0.8,犬=0:0.4",
        blend="猫|犬|馬",
    )
    english, _ = in_models_language(settings, ["赤い犬"], ["en"])
    assert english.drawn_prompts == ("a red cat", "a red dog", "a red horse")
    assert english.reweight == "red=2,dog=-1" and english.blend == "cat|dog|horse"
    assert english.cross_replace_steps == "0.8,dog=0:0.4"


def test_the_files_are_checked_even_if_nothing_needs_them(tmp_path):
    for flag in ("glossary", "translator"):
        settings = Txt2ImgSettings(prompt="a cat", **{flag: str(tmp_path / "none")})
        with pytest.raises(UserError, match=f"--{flag}"):
            in_models_language(settings, ["a cat"], ["en"])


def test_a_picture_keeps_what_was_typed_and_is_redrawn_from_the_english():
    settings = Txt2ImgSettings(prompt="赤い猫", negative_prompt="低画質")
    english, _ = in_models_language(settings, ["赤い猫"], ["en"])
    entries = original_entries(english)
    assert entries == {"Original prompt": "赤い猫", "Original negative prompt": "低画質"}
    values = {"prompt": english.prompt, "negative_prompt": english.negative_prompt}
    read = recorded_language(entries, values, ())
    assert original_entries(Txt2ImgSettings(**values, **read)) == entries
    as_drawn = recorded_language({}, {"prompt": "赤い猫"}, ())
    assert as_drawn["prompt_lang"] == "none"
    assert "prompt_lang" not in recorded_language({}, {"prompt": "赤い猫"}, {"negative_prompt"})


@pytest.mark.parametrize(
    ("entries", "languages"),
    [
        ({"languages": ["en", "ja"]}, ("en", "ja")),
        ({}, ("en",)),
        ({"model": {"params": {"cond_stage_config": "__is_first_stage__"}}}, ("en",)),
        (
            {"model": {"params": {"cond_stage_config": {"target": JAPANESE}}}},
            ("ja",),
        ),
    ],
)
def test_a_configuration_says_what_its_model_reads(entries, languages):
    assert languages_of(OmegaConf.create(entries), "x.yaml") == languages


@pytest.mark.parametrize("wrong", ["en", [], ["english"], [1]])
def test_languages_that_are_no_list_of_codes_are_refused(wrong):
    with pytest.raises(UserError, match="languages is"):
        languages_of(OmegaConf.create({"languages": wrong}), "x.yaml")


def test_the_bundled_model_reads_both():
    assert languages_of(OmegaConf.load(find(DEMO_CONFIG)), DEMO_CONFIG) == ("en", "ja")


def test_a_source_its_targets_and_their_words_are_read_in_one_language():
    settings = SwapSettings(
        sprompt="汽車", prompt="汽車", also=("一輛公車和貓",), reweight="汽車=2", is_swap=True
    )
    found, prompts = in_models_language(settings, ["汽車"], ("en",))
    assert prompts == [found.sprompt] and found.reweight.partition("=")[0] in found.sprompt
    assert "train" not in found.sprompt


def test_a_negative_prompt_says_nothing_of_an_edits_language():
    settings = SwapSettings(
        sprompt="汽車", prompt="汽車", negative_prompt="模糊的貓", reweight="汽車=2", is_swap=True
    )
    found, _ = in_models_language(settings, ["汽車"], ("en",))
    assert found.reweight.partition("=")[0] in found.sprompt
