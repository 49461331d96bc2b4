"""Requests that are drawn together have the bytes that they have alone, whoever they are with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from adapter_shelves import write_shelves
from drawing import image_settings, staged_on_processor, text_settings
from PIL import Image
from tiny_inpainting import SIGHTED, TEXTLESS, write_inpainting_model

from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.pipelines import adapter_files
from ldm.pipelines.grouping import OF_A_ROW, arithmetic_of, group_of
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice, Progress
from ldm.pipelines.text_cache import TextCache
from ldm.pipelines.together import decode_together, draw_together
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.inpaint import InpaintSettings
from ldm.settings.low_memory import LowMemoryTxt2ImgSettings
from ldm.settings.samplers import SAMPLERS

ONE = {"n_samples": 1, "n_iter": 1, "seed_mode": "per-image"}
ROWS = [
    {"prompt": "a cat", "seed": 3, "scale": 3.0},
    {"prompt": "a dog in a very long house", "seed": 2**40, "scale": 7.5},
    {
        **{"prompt": "", "seed": 5, "negative_prompt": "grey", "scale": 0.0},
        **{"subseed": 9, "subseed_strength": 0.3},
    },
]


def requests(pipeline, rows=ROWS, make=text_settings, **shared):
    return [pipeline.prepare(make(**{**ONE, **shared, **row})) for row in rows]


def digest(picture):
    return hashlib.sha256(picture.pixels.tobytes()).hexdigest(), picture.parameters


def alone(pipeline, asked):
    return [digest(next(pipeline.generate(each))) for each in asked]


def together(pipeline, asked, **rest):
    drawn = {index: digest(picture) for index, picture in draw_together(pipeline, asked, **rest)}
    assert len(drawn) == len(asked)
    return [drawn[index] for index in range(len(asked))]


def calls_of(pipeline, monkeypatch, name="apply_model"):
    """Return the numbers of rows that the model will be called with."""
    calls, own = [], getattr(pipeline.model, name)
    note = lambda x, *rest, **more: calls.append(len(x)) or own(x, *rest, **more)  # noqa: E731
    monkeypatch.setattr(pipeline.model, name, note)
    return calls


class AllEqual(dict):
    """What is known where no batch changes a bit."""

    def get(self, key):
        return "at once"


def test_a_picture_is_the_same_alone_and_in_any_company_order_and_place(pipeline):
    asked = requests(pipeline, [*ROWS, {"prompt": "a boat", "seed": 8}])
    own = alone(pipeline, asked)
    assert len(set(own)) == 4
    for order in ([0, 1, 2, 3], [3, 1], [2, 0, 1], [1, 1, 3], [2]):
        assert together(pipeline, [asked[n] for n in order]) == [own[n] for n in order]


def test_pictures_share_calls_of_the_model(pipeline, monkeypatch):
    asked = requests(pipeline)
    monkeypatch.setattr(pipeline, "alike", {arithmetic_of(asked[0]): AllEqual()})
    calls = calls_of(pipeline, monkeypatch)
    together(pipeline, asked)
    assert calls == [6] * 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_a_picture_of_its_own(pipeline, sampler):
    asked = requests(pipeline, ROWS[:2], sampler=sampler, ddim_steps=3, spacing="uniform")
    assert together(pipeline, asked) == alone(pipeline, asked)


SHORTCUTS = [
    {"ddim_eta": 1.0},
    {"guidance_rescale": 0.7},
    {"guidance_interval": "0.3:0.8"},
    {"reuse": "2"},
    {"merge_tokens": 0.5},
    {"freeu": "1.1,1.2,0.9,0.2"},
    {"batch_cfg": "off"},
    {"kernels": "auto"},
    {"fixed_code": True},
    {"precision": "bfloat16"},
    {"clip_skip": 1, "prompt_syntax": "compel"},
]


@pytest.mark.parametrize("shared", SHORTCUTS, ids=lambda each: next(iter(each)))
def test_whatever_the_run_does_otherwise(pipeline, shared):
    asked = requests(pipeline, **shared)
    assert len({group_of(each) for each in asked}) == 1
    assert together(pipeline, asked) == alone(pipeline, asked)


def test_mixtures_of_texts_are_each_its_own(pipeline):
    rows = [{"prompt": "a cat:1 a dog:3"}, {"prompt": "a cat:1", "plain_prompt": True}]
    asked = requests(pipeline, rows, LowMemoryTxt2ImgSettings, ddim_steps=2, H=16, W=16)
    assert len({group_of(each) for each in asked}) == 1
    assert together(pipeline, asked) == alone(pipeline, asked)


def test_without_guidance(pipeline):
    asked = requests(pipeline, [{**row, "scale": 1.0} for row in ROWS])
    assert together(pipeline, asked) == alone(pipeline, asked)


def test_prompts_of_a_grammar_are_grouped_by_their_lengths_and_parts(pipeline, monkeypatch):
    texts = ["a (red:1.4) cat", "a cat AND a dog :0.5", "a [cat:dog:2]", "a [fox:ox:1]", "a, " * 99]
    rows = [{"prompt": text, "seed": n, "scale": 2.0 + n} for n, text in enumerate(texts)]
    asked = requests(pipeline, rows, prompt_syntax="a1111")
    assert together(pipeline, asked) == alone(pipeline, asked)
    monkeypatch.setattr(pipeline, "alike", {arithmetic_of(asked[0]): AllEqual()})
    calls = calls_of(pipeline, monkeypatch)
    together(pipeline, asked)
    # The long one and the plain one by themselves, the parts of AND, the two that change.
    assert sorted(calls) == [2] * 8 + [3] * 4 + [4] * 4


def test_pictures_to_start_from_are_each_its_own(pipeline, init_img, tmp_path):
    Image.fromarray(np.full((12, 16, 3), 90, np.uint8)).save(tmp_path / "grey.png")
    rows = [{**row, "init_img": str(tmp_path / "grey.png")} for row in ROWS[:2]]
    rows.append({**ROWS[2], "init_img": str(init_img)})
    asked = requests(pipeline, rows, image_settings, strength=0.5)
    assert together(pipeline, asked) == alone(pipeline, asked)
    with_noise = requests(pipeline, rows, image_settings, sampler="euler_a")
    assert together(pipeline, with_noise) == alone(pipeline, with_noise)


@pytest.mark.parametrize("config", [None, SIGHTED, TEXTLESS], ids=["text", "sighted", "textless"])
def test_masks_are_each_its_own(pipeline, init_img, tmp_path, config):
    if config is not None:
        pipeline = Pipeline.load(write_inpainting_model(tmp_path, config), device="cpu")
    asked = []
    for row, edge in zip(ROWS, (3, 6, 9), strict=True):
        marked = np.zeros((12, 16), np.uint8)
        marked[:edge] = 255
        text = row if config is not TEXTLESS else {"prompt": "", "scale": 1.0, "strength": 1.0}
        own = {**text, "seed": row["seed"]}
        settings = InpaintSettings(init_img=str(init_img), ddim_steps=4, **{**ONE, **own})
        asked.append(pipeline.prepare(settings, mask=Image.fromarray(marked)))
    assert len({group_of(each) for each in asked}) == 1
    assert together(pipeline, asked) == alone(pipeline, asked)


def test_loras_and_embeddings_act_on_the_pictures_that_name_them(pipeline, tmp_path, monkeypatch):
    monkeypatch.chdir(write_shelves(tmp_path, pipeline.model))
    monkeypatch.setattr(adapter_files, "ROOT", Path("elsewhere"))
    texts = ["a cat <lora:hat:0.5>", "a cat", "a dog <lora:hat:0.5>", "a sunny cat"]
    texts.append("a cat <lora:hat:0.9>")
    syntax = {"prompt_syntax": "a1111"}
    asked = requests(pipeline, [{"prompt": text} for text in texts], **syntax)
    groups = [group_of(each) for each in asked]
    assert len(set(groups)) == 4 and groups[0] == groups[2]
    own, cache = alone(pipeline, asked), TextCache()
    assert len(set(own)) == 5
    for _ in range(2):  # the second time from the cache
        assert together(pipeline, asked, cache=cache) == own


def test_what_cannot_share_is_drawn_all_the_same(pipeline, tiny_ckpt):
    asked = [*requests(pipeline, ROWS[:1]), *requests(pipeline, ROWS[1:], seed_mode="compvis")]
    assert together(pipeline, asked) == alone(pipeline, asked)
    drawn = list(decode_together(pipeline, asked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.model, "apply_model", None)  # a thread that finishes draws nothing
        assert all(each.finish().pixels.any() for each in drawn)
    staged = staged_on_processor(tiny_ckpt)
    asked = requests(staged, ROWS[:2], precision="full")
    assert together(staged, asked) == alone(staged, asked)


def test_a_picture_is_redrawn_from_its_file(pipeline, tmp_path):
    asked = requests(pipeline)
    picture = dict(draw_together(pipeline, asked))[1]
    save_picture(picture.pixels, tmp_path / "a.png", metadata=picture.parameters)
    values, place = read_picture(str(tmp_path / "a.png"), Txt2ImgSettings).rerun({})
    again = pipeline.prepare(Txt2ImgSettings(**values), place=place)
    assert digest(next(pipeline.generate(again))) == digest(picture)


def test_texts_are_encoded_once(pipeline, monkeypatch):
    asked, cache = requests(pipeline), TextCache()
    calls = calls_of(pipeline, monkeypatch, "get_learned_conditioning")
    own = together(pipeline, asked, cache=cache)
    assert calls == [1] * 4  # the empty prompt is also what two are guided away from
    assert together(pipeline, asked, cache=cache) == own and len(calls) == 4


@pytest.mark.parametrize("bad", [0, 1])
def test_a_request_that_fails_costs_its_own_picture(pipeline, monkeypatch, bad):
    asked = requests(pipeline)
    own, encode = alone(pipeline, asked), pipeline.model.get_learned_conditioning
    poison = [ROWS[bad]["prompt"]]
    monkeypatch.setattr(
        pipeline.model,
        "get_learned_conditioning",
        lambda texts: encode(texts) * (torch.nan if texts == poison else 1.0),
    )
    drawn = {}
    with pytest.raises(UserError, match="latent of picture"):
        drawn.update((n, digest(picture)) for n, picture in draw_together(pipeline, asked))
    assert drawn == {n: own[n] for n in (0, 1, 2) if n != bad}


def test_lack_of_memory_ends_the_batch(pipeline, monkeypatch):
    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(pipeline.model, "decode_first_stage", refuse)
    with pytest.raises(UserError, match="do not fit into the memory"):
        list(decode_together(pipeline, requests(pipeline)))


def test_a_request_of_several_pictures_is_refused(pipeline):
    with pytest.raises(ValueError, match="request 1 is of 2 pictures"):
        list(draw_together(pipeline, requests(pipeline, [{}, {"n_samples": 2}])))


def test_notices_are_given_once_and_progress_for_the_batch(pipeline):
    events = []
    together(pipeline, requests(pipeline, ROWS[:2]), observer=events.append)
    notices = [event for event in events if isinstance(event, Notice)]
    assert notices and len(notices) == len(set(notices))
    steps = [Progress(done, 8, 0, 2) for done in (2, 4, 6, 8)]
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress == [*steps, Progress(8, 8, 1, 2), Progress(8, 8, 2, 2)]


def test_every_setting_that_rows_have_their_own_of_was_drawn_here_or_is_none_of_the_model():
    drawn = {*ROWS[0], *ROWS[2], "init_img", "mask"}
    # What they were before the request was made, of a size that it has, and of a finished picture,
    # which each run finishes by itself.
    before = {"prompt_lang", "glossary", "translator", "originals", "on_language", "plain_prompt"}
    before |= {"from_file", "from_image", "max_pixels", "H", "W"}
    before |= {"wildcards", "template", "negative_template"}
    before |= {"only_masked", "mask_blur", "invert_mask", "outpaint"}
    after = {"format", "watermark", "safety_checker", "outdir", "skip_grid", "skip_save", "n_rows"}
    assert drawn | before | after == OF_A_ROW
