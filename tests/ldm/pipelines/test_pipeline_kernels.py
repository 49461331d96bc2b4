"""What --kernels makes of a run: the same pictures but for rounding, and a model left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawing import staged_on_processor

from ldm.kernels import prepare
from ldm.kernels.element_type import computes_in
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice
from ldm.settings.generation import Txt2ImgSettings
from ldm.wrapping import is_stood_in

pytestmark = pytest.mark.skipif(not prepare.is_available(), reason="this torch has no oneDNN")


def drawn(pipeline, kernels, told=None, **other):
    size = {"H": 16, "W": 16, "ddim_steps": 3, "n_iter": 1, "n_samples": 2}
    settings = Txt2ImgSettings(prompt="a fox", kernels=kernels, **size, **other)
    observer = (told if told is not None else []).append
    return [picture.pixels for picture in pipeline.generate(settings, observer=observer)]


def made(pipeline):
    """Which packed copies of weights a pipeline holds."""
    layers = [layer for _, layer in pipeline._arithmetic._kernels._layers]
    return [id(each._copy) for layer in layers for each in layer.weights if each.is_made]


def notices(told):
    return [event.text for event in told if isinstance(event, Notice)]


@pytest.fixture
def own(tiny_ckpt):
    return Pipeline.load(tiny_ckpt, device="cpu")


def test_packed_weights_draw_the_same_but_for_rounding_and_leave_the_model_as_it_was(own):
    plain, packed = drawn(own, "plain"), drawn(own, "auto")
    assert own._arithmetic._kernels.packed_bytes > 0
    assert not any(is_stood_in(module, "forward") for module in own.model.modules())
    for one, other in zip(plain, packed, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).max() <= 1
    assert np.array_equal(drawn(own, "auto"), packed)
    assert np.array_equal(drawn(own, "plain"), plain)
    assert own._arithmetic._kernels is None


@pytest.mark.skipif(not computes_in(torch.bfloat16), reason="this processor has no bfloat16")
def test_a_run_in_bfloat16_is_packed_and_the_next_one_packs_nothing(own):
    weights = {name: weight.clone() for name, weight in own.model.state_dict().items()}
    plain, first = (drawn(own, each, precision="bfloat16") for each in ("plain", "auto"))
    for one, other in zip(plain, first, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 4
    numbers = prepare.Kernels(own.model).most_numbers
    assert 0 < own._arithmetic._kernels.packed_bytes <= 2 * numbers
    before = made(own)
    assert all(map(np.array_equal, drawn(own, "auto", precision="bfloat16"), first))
    assert before and made(own) == before
    with torch.no_grad():
        own.model.model.diffusion_model.input_blocks[0][0].weight.mul_(2)
    assert not np.array_equal(drawn(own, "auto", precision="bfloat16")[0], first[0])
    own.model.model.diffusion_model.input_blocks[0][0].weight.data.div_(2)
    assert all(map(np.array_equal, drawn(own, "auto", precision="bfloat16"), first))
    assert all(torch.equal(weights[name], each) for name, each in own.model.state_dict().items())
    drawn(own, "auto")
    assert own._arithmetic._kernels.packed_bytes > 2 * numbers  # float32 has its own


def test_a_format_that_packed_weights_do_not_multiply_in_is_said(own):
    told = []
    drawn(own, "auto", told, precision="float16")
    (text,) = [text for text in notices(told) if "packed" in text]
    assert "float16" in text and "--kernels plain is used" in text


def test_without_memory_for_a_second_copy_it_is_plain_and_says_so(own, monkeypatch):
    monkeypatch.setattr(prepare, "free_memory", lambda: 1000)
    told = []
    assert np.array_equal(drawn(own, "auto", told), drawn(own, "plain"))
    assert any("--kernels plain is used" in text for text in notices(told))


def test_without_memory_for_tiles_weights_are_packed_for_direct_convolutions(own, monkeypatch):
    direct = 4 * prepare.Kernels(own.model, tiles=False).most_numbers
    monkeypatch.setattr(prepare, "free_memory", lambda: prepare.ROOM * direct)
    told = []
    drawn(own, "auto", told)
    assert any("large maps are not cut into tiles" in text for text in notices(told))
    assert 0 < own._arithmetic._kernels.packed_bytes <= direct


@pytest.mark.skipif(not computes_in(torch.bfloat16), reason="this processor has no bfloat16")
def test_memory_for_bfloat16_is_not_taken_for_memory_for_float32(own, monkeypatch):
    direct = 2 * prepare.Kernels(own.model, tiles=False).most_numbers
    monkeypatch.setattr(prepare, "free_memory", lambda: prepare.ROOM * direct)
    drawn(own, "auto", precision="bfloat16")
    assert own._arithmetic._kernels.packed_bytes > 0
    told = []
    drawn(own, "auto", told)
    assert own._arithmetic._kernels is None
    assert any("--kernels plain is used" in text for text in notices(told))


def test_where_parts_take_turns_it_has_no_effect_and_says_so(tiny_ckpt):
    staged = staged_on_processor(tiny_ckpt)
    told = []
    drawn(staged, "auto", told)
    assert any("--kernels has no effect" in text for text in notices(told))
