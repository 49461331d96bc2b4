"""Controls are made from the options of settings, and their values become settings again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ldm.errors import UserError
from ldm.settings.option import options_of
from ldm.settings.shortcuts import ShortcutSettings
from ldm.settings.speed import SpeedSettings
from optimizedSD.web import setting_words
from optimizedSD.web.fields import fields_of, settings_from, with_labels
from optimizedSD.web.page import IMG2IMG, INPAINT, SWAP, TXT2IMG

ROOT = Path(__file__).resolve().parents[3]
PAGES = [TXT2IMG, IMG2IMG, INPAINT, SWAP]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.server.program)


def controls(page, **initial):
    return fields_of(page.schema, {**page.initial, **initial}, page.fixed)


def settings(page, **changes):
    """Return what a page's settings are after a visitor changed some of its controls."""
    fields = controls(page)
    held = {field.name: field.value for field in fields} | changes
    return settings_from(page.schema, fields, list(held.values()), **page.fixed)


def labels(page):
    return {field.option.flag: field.label for field in controls(page)}


@pages
def test_untouched_controls_give_back_the_settings_they_were_made_from(page):
    expected = page.schema(**page.initial, **page.fixed, seed=7)
    assert settings(page, seed="7") == expected


@pages
def test_every_control_sets_its_own_setting_and_no_other(page):
    first = {"seed": 7, "subseed": 3}  # how far to vary needs what towards
    base = settings(page, **first)
    for field in controls(page):
        other = another_value(field)
        changed = settings(page, **{**first, field.name: other})
        assert changed == replace(base, **{field.name: other}), field.name


def another_value(field):
    if field.kind == "choice":
        # One that goes with every other setting's first value.
        return next(c for c in field.option.offered if c not in (field.value, "karras"))
    if field.kind == "switch":
        return not field.value
    if field.kind == "text":
        return "8,0,8,0" if field.name == "outpaint" else "a dog"
    if field.name == "ddim_eta":
        return 0.0  # another one would need another sampler
    return 0.5 if field.kind == "slider" else 8


@pages
def test_every_setting_has_a_control_or_comes_from_the_command_line_or_an_upload(page):
    shown = {field.name for field in controls(page)}
    server = {each.name for each in options_of(page.server)}
    uploads = {"init_img", "mask"}
    # A page draws one text at a time, never a grid, and leaves the latent's shape to the model.
    without = {"from_file", "from_image", "skip_grid", "skip_save", "n_rows", "C", "f", "laion400m"}
    without |= {"max_pixels", "save_attn_dir", "hires_upscaler"}
    without |= {"restore_faces", "face_fidelity", "face_detector"}
    # They name the server's files, or go with what does.
    without |= {"control", "control_mode", "hint_only", "image_encoder", "box", "hires_upscaler"}
    without |= set(ShortcutSettings.__annotations__)
    # The model's parts take turns, which leaves these without effect.
    without |= set(SpeedSettings.__annotations__)
    edit = {"reweight", "cross_replace_steps", "self_replace_steps", "blend"}  # see edit_fields
    every = {each.name for each in options_of(page.schema)}
    assert every <= shown | server | uploads | without | edit | page.fixed.keys()
    assert not shown & (server | uploads | without)


@pages
def test_a_visitor_does_not_choose_what_is_loaded_or_read(page):
    shown = fields_of(page.schema, {}, page.fixed)
    names = {field.name for field in shown}
    assert not names & {"ckpt", "config", "trust_config", "from_file", "from_image", "max_pixels"}
    assert not [each.name for each in shown if each.option.group in ("model", "adapters")]


@pages
def test_labels_are_short_and_distinct_and_name_no_flag(page):
    fields = controls(page)
    assert len({field.label for field in fields}) == len(fields)
    for field in fields:
        assert 0 < len(field.label) < 100
        assert field.label[0].isupper()
        assert not re.search(r"(?<![\w-])--\w", field.label + field.info), field


@pages
def test_a_setting_that_is_not_explained_for_pages_says_what_its_help_says(page, monkeypatch):
    monkeypatch.setattr(setting_words, "SETTING_WORDS", {})
    for field in controls(page):
        assert field.key is None
        spoken = f"{field.label} {field.info}".lower()
        words = re.findall(r"[a-z]{4,}", re.sub(r"\([^()]*--[^()]*\)|--\w+", "", field.option.help))
        assert all(word in spoken for word in words), field


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("prompt", "text"),
        ("sampler", "choice"),
        ("fixed_code", "switch"),
        ("ddim_eta", "slider"),
        ("scale", "number"),
        ("n_samples", "number"),
        ("H", "blank"),
        ("seed", "blank"),
    ],
)
def test_the_kind_of_a_control_follows_from_its_option(name, kind):
    assert {field.name: field.kind for field in controls(TXT2IMG)}[name] == kind


@pages
def test_the_initial_prompt_is_one_that_the_demo_model_knows(page):
    shown = (ROOT / "assets" / "demo-prompts.txt").read_text(encoding="utf-8").splitlines()
    assert page.initial.get("sprompt", page.initial["prompt"]) in shown


@pytest.mark.parametrize("held", [8, 8.0, "8", " 8 "])
def test_a_number_may_come_as_the_browser_sends_it(held):
    assert settings(TXT2IMG, ddim_steps=held, seed=held).ddim_steps == 8
    assert settings(TXT2IMG, seed=held).seed == 8


@pytest.mark.parametrize("seed", [2**53 + 1, 6421725739674010, 2**63 - 1])
@pages
def test_a_seed_is_text_on_the_page_as_a_browsers_numbers_end_at_53_bits(page, seed):
    assert next(each for each in controls(page) if each.name == "seed").kind == "blank"
    assert settings(page, seed=str(seed)).seed == seed


@pytest.mark.parametrize("held", [None, ""])
def test_an_empty_seed_is_drawn_at_random(held):
    seeds = {settings(TXT2IMG, seed=held).seed for _ in range(8)}
    assert len(seeds) > 1
    assert all(type(seed) is int for seed in seeds)


def test_an_empty_size_is_left_to_the_model():
    assert settings(TXT2IMG, H="", W=None).H is None


@pytest.mark.parametrize(
    ("name", "held", "message"),
    [
        ("ddim_steps", 0, "0 was given; expected a whole number, 1 or more"),
        ("ddim_steps", 2.5, "2.5 was given; expected a whole number"),
        ("ddim_steps", None, "is empty; expected a whole number"),
        ("n_samples", -1, "-1 was given; expected a whole number"),
        ("seed", "lucky", "lucky was given; expected a whole number"),
        ("H", "tall", "tall was given; expected a whole number"),
        ("scale", float("nan"), "nan was given; expected a number"),
        ("sampler", "magic", "magic was given; expected ddim"),
        ("spacing", "karras", "karras is for heun"),
    ],
)
def test_an_error_names_the_control_by_its_label(name, held, message):
    with pytest.raises(UserError) as caught:
        settings(TXT2IMG, **{name: held})
    text = with_labels(str(caught.value), labels(TXT2IMG))
    (label,) = [field.label for field in controls(TXT2IMG) if field.name == name]
    assert f"“{label}”" in text
    assert message in text
    assert "--" not in text


def test_flags_without_a_control_stay_and_uploads_are_called_by_name():
    words = with_labels("--outdir x; --ddim_steps; --init-img; --seed_mode", labels(INPAINT))
    assert words.startswith("--outdir x; “Steps”; the picture; “What a seed")
    assert "“Seed”" not in words


def test_a_value_behind_its_flag_is_called_as_its_menu_calls_it():
    (mode,) = [each for each in controls(TXT2IMG) if each.name == "seed_mode"]
    values = {"--seed_mode": {value: text for text, value in mode.choices("en")}}
    text = "--seed_mode per-image, --seed_mode of, --n_iter per-image"
    assert with_labels(text, labels(TXT2IMG), values) == (
        "“What a seed counts for”: “each picture its own”, “What a seed counts for” of, “Rounds” "
        "per-image"
    )


def test_an_initial_value_without_a_control_is_an_error():
    with pytest.raises(KeyError, match="no control for"):
        controls(TXT2IMG, strength=0.5)


def test_every_control_needs_a_value():
    with pytest.raises(ValueError, match="shorter"):
        settings_from(TXT2IMG.schema, controls(TXT2IMG), ["a cat"])
