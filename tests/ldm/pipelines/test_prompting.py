"""Pictures drawn from prompts with a grammar: every sampler, small devices, other pictures."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from drawing import draw, image_settings, pixels_of, text_settings

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.offload.plan import PlanSettings
from ldm.pipelines import staging
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice
from ldm.pipelines.prompt_notices import grammar_notices
from ldm.pipelines.staging import StagedModel, Staging
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.samplers import SAMPLERS
from ldm.settings.swap import SwapSettings

ONE = {"n_iter": 1, "n_samples": 1, "seed_mode": "per-image", "ddim_steps": 4}
LONG = "a red apple, on a mat, " * 20


def settings(prompt, **changes):
    return text_settings(prompt=prompt, **{**ONE, "prompt_syntax": "a1111", **changes})


def picture(pipeline, prompt, **changes):
    return pixels_of(draw(pipeline, settings(prompt, **changes))[0]).astype(int)


def warnings(pipeline, prompt, **changes):
    _, events = draw(pipeline, settings(prompt, **changes))
    return " | ".join(e.text for e in events if isinstance(e, Notice) and e.warning)


def apart(one, other):
    return np.abs(one - other).max()


@pytest.fixture(scope="module")
def pipeline(pipeline):
    """The tiny model, whose pictures depend more on their prompts than those of random weights."""
    model = copy.deepcopy(pipeline.model)
    with torch.no_grad():
        for name, weight in model.model.named_parameters():
            if "attn2.to_v" in name or "attn2.to_out" in name:
                weight.mul_(40.0)
    return Pipeline(model, pipeline.choice)


@pytest.fixture
def encoded(pipeline, monkeypatch):
    """How many rows each call of the text encoder had."""
    conditioner, calls = pipeline.model.cond_stage_model, []
    own = conditioner.encode_ids
    note = lambda ids, *rest: calls.append(len(ids)) or own(ids, *rest)  # noqa: E731
    monkeypatch.setattr(conditioner, "encode_ids", note)
    return calls


@pytest.mark.parametrize("syntax", ["a1111", "compel"])
def test_a_short_plain_prompt_draws_the_same_picture_in_every_syntax(pipeline, syntax):
    plain = picture(pipeline, "a red apple", prompt_syntax="compvis")
    assert apart(picture(pipeline, "a red apple", prompt_syntax=syntax), plain) <= 1


def test_a_change_at_a_step_draws_something_between_both_texts(pipeline):
    first, second = (picture(pipeline, text) for text in ("an apple", "blue sky blue sky"))
    both = "[an apple:blue sky blue sky:{}]"
    assert apart(picture(pipeline, both.format(99)), first) == 0
    assert apart(picture(pipeline, both.format(0)), second) == 0
    between = picture(pipeline, both.format(1))
    assert apart(between, first) > 1 and apart(between, second) > 1


def test_two_halves_of_one_prompt_are_the_prompt(pipeline):
    plain = picture(pipeline, "a red apple")
    assert apart(picture(pipeline, "a red apple :0.5 AND a red apple :0.5"), plain) <= 1
    assert apart(picture(pipeline, "a red apple AND a blue box"), plain) > 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_prompts_that_are_encoded_once_a_run(pipeline, encoded, sampler):
    prompt, changes = "a [cat|dog] AND a (red:1.4) hat", {"sampler": sampler, "scale": 3.0}
    several = picture(pipeline, prompt, n_samples=2, n_iter=2, **changes)
    assert encoded == [2, 1, 1]  # both animals; the hat; the empty negative prompt
    assert several.shape[0] == 4 and apart(several[0], several[1]) > 1
    # Picture 2 by itself, from its own seed.
    alone = picture(pipeline, prompt, seed=44, **changes)
    assert apart(several[2], alone[0]) <= 1


def test_rows_of_a_batch_do_not_lengthen_each_other(pipeline, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"a cat BREAK b\na [dog:bird:2]\n{LONG}\n")
    together = picture(pipeline, "", from_file=str(prompts), n_samples=3)
    for row, prompt in enumerate(prompts.read_text().splitlines()):
        alone = picture(pipeline, prompt, seed=42 + row)
        assert apart(together[row], alone[0]) <= 1


def test_a_long_negative_prompt_goes_with_a_short_prompt(pipeline):
    for syntax in ("a1111", "compel"):
        plain = picture(pipeline, "a cat", prompt_syntax=syntax)
        away = picture(pipeline, "a cat", negative_prompt=LONG, prompt_syntax=syntax)
        assert apart(plain, away) > 1


def test_without_guidance_a_schedule_and_a_weight_are_drawn_too(pipeline):
    plain = picture(pipeline, "a cat", scale=1.0)
    assert apart(picture(pipeline, "[a cat:b:99]", scale=1.0), plain) <= 1
    assert apart(picture(pipeline, "a cat :1.0", scale=1.0), plain) <= 1
    assert apart(picture(pipeline, "a cat :3", scale=1.0), plain) > 1


def test_in_image_to_image_steps_count_from_the_first_that_is_taken(pipeline, init_img):
    def painted(prompt):
        made = image_settings(init_img, **ONE, prompt=prompt, prompt_syntax="a1111", strength=0.5)
        return pixels_of(draw(pipeline, made)[0]).astype(int)

    both = "[an apple:blue sky blue sky:{}]"
    # Two steps of four: 0 and 1.
    assert apart(painted(both.format(1)), painted("an apple")) == 0
    assert apart(painted(both.format(0.25)), painted("an apple")) == 0
    assert apart(painted(both.format(0)), painted("blue sky blue sky")) == 0


def test_on_a_small_device_the_text_encoder_is_there_while_it_encodes(pipeline, monkeypatch):
    staged = Pipeline(
        model := copy.deepcopy(pipeline.model),
        pipeline.choice,
        staged=StagedModel(model, Staging(), torch.device("cpu")),
    )
    given = {name: getattr(settings(""), name) for name in ("ddim_steps", "sampler", "scale")}
    prompt = "a [cat|dog:2] AND a hat BREAK b"
    for rows in (None, 1):
        monkeypatch.setattr(
            staging, "choose", lambda *_, rows=rows, **__: PlanSettings("four-part", unet_rows=rows)
        )
        small = LowMemoryTxt2ImgSettings(
            prompt=prompt, prompt_syntax="a1111", n_samples=2, n_iter=2, seed=42, **given
        )
        before = len(staged.staged.ledger.events)
        pictures, _ = draw(staged, small)
        wanted = picture(pipeline, prompt, n_samples=2, n_iter=2)
        assert apart(pixels_of(pictures).astype(int), wanted) <= 1
        visits = [e.stage for e in staged.staged.ledger.events[before:] if e.action == "load"]
        first = visits.index("unet_encode")
        assert set(visits[:first]) == {"text"} and "text" not in visits[first:]


def test_a_plan_counts_the_rows_of_every_part(pipeline):
    rows = lambda prompt, **k: pipeline.prepare(settings(prompt, **k)).rows_per_picture  # noqa: E731
    assert rows("a AND b AND c") == 4
    assert (rows("a"), rows("a", scale=1.0), rows("a AND b", scale=1.0)) == (2, 1, 3)
    assert rows("a AND b", prompt_syntax="compvis") == rows("a b", prompt_syntax="compel") == 2


def test_a_picture_is_drawn_again_from_its_own_file(pipeline, tmp_path):
    prompt = "a [cat|dog] (hat:1.3) AND sky :0.4"
    made = settings(prompt, emphasis="no-norm", clip_skip=1)
    (first,), _ = draw(pipeline, made)
    assert "Prompt syntax: a1111" in first.parameters and "Emphasis: No norm" in first.parameters
    path = save_picture(first.pixels, tmp_path / "x.png", metadata=first.parameters)
    values, place = read_picture(str(path), Txt2ImgSettings).rerun({})
    (again,), _ = draw(pipeline, pipeline.prepare(Txt2ImgSettings(**values), place=place))
    assert np.array_equal(again.plain, first.plain)
    (plain,), _ = draw(pipeline, settings("a cat", prompt_syntax="compvis"))
    for key in ("Prompt syntax", "Clip skip", "Emphasis"):
        assert key not in plain.parameters


def test_a_tag_whose_file_is_missing_ends_the_run_and_tags_are_listed(pipeline):
    with pytest.raises(UserError, match="'<lora:ink:0.8>' in a prompt is no file"):
        picture(pipeline, "a cat <lora:ink:0.8>")
    prompt = "a cat <lora:ink:0.8>"
    [told] = grammar_notices(settings(prompt), [prompt])
    assert told.endswith("name files that are not attached: '<lora:ink:0.8>'")
    assert not list(grammar_notices(settings(prompt), [prompt], ["<lora:ink:0.8>"]))


@pytest.mark.parametrize(
    ("prompt", "syntax", "part"),
    [
        ("a cat <lora:ink:0.8", "a1111", "<lora:ink:0.8"),
        ("a cat <lora:ink:0.8", "compvis", "<lora:ink:0.8"),
        ("a cat <lora:> in a hat", "compel", "<lora:"),
        ("a cat <lora:hat <lora:ink:1>", "a1111", "<lora:hat"),
        ("a cat withLora(ink, x)", "compel", "withLora(ink, x)"),
        ("a cat withLora(ink", "compel", "withLora(ink"),
    ],
)
def test_what_begins_as_the_name_of_a_lora_and_is_none_is_said(prompt, syntax, part):
    [told] = [
        each
        for each in grammar_notices(settings(prompt, prompt_syntax=syntax), [prompt])
        if "name no LoRA as they stand" in each
    ]
    assert f": {part!r}; expected" in told


def test_names_of_loras_that_can_be_read_are_not_said_to_be_none():
    for syntax in ("compvis", "a1111", "compel"):
        prompt = "a cat <lora:ink:0.8> withLora(ink, 0.5) in 3 < 4 <b> <LORA:x:1>"
        told = list(grammar_notices(settings(prompt, prompt_syntax=syntax), [prompt]))
        assert not any("as they stand" in each for each in told)
    assert any("withLora(ink, 0.5)" in each for each in _told("a cat withLora(ink, 0.5)"))


def _told(prompt):
    return grammar_notices(settings(prompt, prompt_syntax="compvis"), [prompt])


@pytest.mark.parametrize(
    ("prompt", "changes", "said"),
    [
        ("a (red:1.3) cat", {"prompt_syntax": "compvis"}, "--prompt_syntax a1111 reads them"),
        ("a red++ cat", {"prompt_syntax": "compvis"}, "--prompt_syntax compel reads them"),
        ("a cat (sitting)", {"prompt_syntax": "compvis"}, ""),
        ("a (cat BREAK dog)", {}, "BREAK inside brackets is a word"),
        ("a cat", {"negative_prompt": "a AND b"}, "AND in --negative_prompt is a word"),
        ("a cat BREAK dog", {}, ""),
        ("a cat", {"emphasis": "no-norm", "prompt_syntax": "compel"}, "--emphasis no-norm has no"),
        (LONG, {}, ""),
        (LONG, {"prompt_syntax": "compvis"}, "its end is not used"),
    ],
)
def test_what_is_not_done_is_said_once(pipeline, prompt, changes, said):
    told = warnings(pipeline, prompt, watermark="off", **changes)
    assert (said in told and told.count("|") == 0) if said else told == ""


def test_edits_refuse_other_syntaxes_in_one_line():
    for changes in ({"prompt_syntax": "a1111"}, {"clip_skip": 2}):
        with pytest.raises(UserError, match="edits read plain prompts only"):
            SwapSettings(prompt="a cat", **changes).validate()


def test_a_colon_and_a_number_are_no_mixture_in_other_syntaxes():
    prompt = "a cat:0.25 a dog:0.75"
    assert len(LowMemoryTxt2ImgSettings().mixture(prompt)) == 2
    made = LowMemoryTxt2ImgSettings(prompt_syntax="a1111", prompt="a cat:-1 b")
    made.validate()
    assert made.mixture(prompt) == [(prompt, 1.0)]


def test_a_model_whose_text_encoder_cannot_is_named_in_one_line(pipeline, monkeypatch):
    monkeypatch.setattr(type(pipeline.model.cond_stage_model).__mro__[1], "encode_ids", property())
    with pytest.raises(UserError, match="reads plain text only; expected CLIP's") as refused:
        picture(pipeline, "a cat")
    assert "\n" not in str(refused.value)
