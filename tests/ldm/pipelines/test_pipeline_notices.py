"""What a run tells: progress, notices, and what goes wrong as one sentence."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import PROMPTS, draw, image_settings, text_settings
from PIL import Image

from ldm.errors import UserError
from ldm.pipelines import pipeline as generate
from ldm.pipelines.phases import way_out
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice, Progress
from ldm.pipelines.run import Execution
from ldm.pipelines.staging import StagedRun


def test_progress_counts_steps_times_pictures(pipeline):
    _, events = draw(pipeline, text_settings(n_iter=1), prompts=PROMPTS[:3])
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[0] == Progress(0, 12, 0, 3)
    assert progress[-1] == Progress(12, 12, 3, 3)
    done = [event.done for event in progress]
    assert done == sorted(done) and {2, 4, 6, 8, 9, 10, 11, 12} <= set(done)


def test_a_prompt_over_77_tokens_is_named_with_its_lost_end(pipeline):
    prompt = "cat " * 75 + "dog zebra"
    _, events = draw(pipeline, text_settings(prompt=prompt, n_iter=1))
    (notice,) = [e for e in events if isinstance(e, Notice) and "77" in e.text]
    assert notice.warning and "'dog zebra'" in notice.text
    _, events = draw(pipeline, text_settings(prompt="cat " * 75, n_iter=1))
    assert not [e for e in events if isinstance(e, Notice) and "77" in e.text]
    _, events = draw(pipeline, text_settings(prompt="cat " * 3000, n_iter=1))
    (notice,) = [e for e in events if isinstance(e, Notice) and "77" in e.text]
    assert len(notice.text) < 700 and notice.text.endswith("11199 more letters")


def test_pictures_far_above_the_models_size_are_warned_of(pipeline, tmp_path):
    def told(settings):
        _, events = draw(pipeline, replace(settings, n_iter=1, n_samples=1))
        return any("far above the 16x16" in e.text for e in events if isinstance(e, Notice))

    Image.new("RGB", (64, 32)).save(tmp_path / "large.png")
    assert told(image_settings(tmp_path / "large.png"))
    assert told(text_settings(H=36, W=32))
    assert not told(text_settings(H=32, W=32))


def test_pictures_remember_that_their_model_holds_averages(pipeline):
    averaged = Pipeline(pipeline.model, pipeline.choice, use_ema=True)
    for drawing, kept in ((pipeline, False), (averaged, True)):
        (picture, *_), _ = draw(drawing, text_settings(n_iter=1))
        assert ("EMA: True" in picture.parameters) is kept


def test_missing_checker_and_watermark_are_told_once(pipeline):
    _, events = draw(pipeline, text_settings(safety_checker="off"))
    texts = [event.text for event in events if isinstance(event, Notice)]
    assert sum("--safety_checker off" in text for text in texts) == 1
    assert sum("16x16 are too small" in text for text in texts) == 1


class _Flagging:
    """A checker that finds the second picture of a batch offensive."""

    status = None

    def load(self):
        pass

    def check(self, pictures, *, seen):
        assert np.abs(seen.astype(int) - pictures).max() <= 1
        flags = [row == 1 for row in range(len(pictures))]
        shown = pictures.copy()
        shown[flags] = 0
        return shown, flags, ["concept 3 (score 0.1)"] * len(pictures)


def test_a_flagged_picture_is_black_and_named(pipeline, monkeypatch):
    monkeypatch.setitem(pipeline._checkers, "on", _Flagging())
    pictures, events = draw(pipeline, text_settings(n_iter=1))
    assert [picture.flagged for picture in pictures] == [False, True]
    assert pictures[0].pixels.any() and not pictures[1].pixels.any()
    (notice,) = [e for e in events if isinstance(e, Notice) and "picture 2" in e.text]
    assert notice.warning and "concept 3 (score 0.1)" in notice.text


def broken(pipeline, name):
    """A copy of the tiny model with NaN in one of its weights."""
    model = copy.deepcopy(pipeline.model)
    with torch.no_grad():
        model.get_parameter(name).fill_(float("nan"))
    return Pipeline(model, pipeline.choice)


@pytest.mark.parametrize(
    "name", ["model.diffusion_model.out.2.weight", "first_stage_model.decoder.conv_out.weight"]
)
def test_nan_is_an_error_and_no_picture(pipeline, name):
    for precision in ("autocast", "full"):  # a CPU computes both in float32
        with pytest.raises(UserError, match="NaN") as caught:
            draw(broken(pipeline, name), text_settings(n_iter=1, precision=precision))
        assert f"weights hold NaN or infinity ({name})" in str(caught.value)
        assert "--precision" not in str(caught.value)


def test_a_way_out_is_advised_only_where_it_has_not_been_taken(pipeline):
    assert way_out(pipeline.model, torch.float16).endswith("run again with --precision full")
    assert "--" not in way_out(pipeline.model, None)
    model = broken(pipeline, "model.diffusion_model.out.2.weight").model
    for half in (torch.float16, None):
        assert "model.diffusion_model.out.2.weight" in way_out(model, half)
    assert Execution(torch.device("cuda"), torch.float16).untried is torch.float16
    assert StagedRun.untried.fget(None) is None


REFUSALS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=["cuda", "cpu", "mps", "python"])
def test_running_out_of_memory_says_what_to_do(pipeline, init_img, monkeypatch, refusal):
    def explode(*args):
        raise refusal

    monkeypatch.setattr(pipeline.model, "decode_first_stage", explode)
    with pytest.raises(UserError, match=r"pictures of 16x16, 2 at a time, .* --n_samples"):
        draw(pipeline, text_settings())
    monkeypatch.setattr(pipeline.model, "encode_first_stage", explode)
    with pytest.raises(UserError, match=r"pictures of 16x12, 1 at a time, .* draw smaller ones"):
        draw(pipeline, image_settings(init_img))


def test_other_failures_are_not_taken_for_a_lack_of_memory(pipeline, monkeypatch):
    def explode(*args):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(pipeline.model, "decode_first_stage", explode)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        draw(pipeline, text_settings())


def test_weights_that_do_not_fit_the_device_are_told(tiny_ckpt, monkeypatch):
    def explode(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(generate, "load_model", explode)
    with pytest.raises(UserError, match=r"tiny\.safetensors do not fit .* memory of cpu"):
        Pipeline.load(tiny_ckpt, device="cpu")


def test_settings_are_checked_before_anything_is_drawn(pipeline):
    with pytest.raises(UserError, match="multiple of 4"):
        draw(pipeline, text_settings(H=18))
    with pytest.raises(UserError, match="PLMS"):
        draw(pipeline, text_settings(sampler="plms", ddim_eta=0.5))
