"""stable-diffusion.cpp gets the same weights, takes turns, and has its steps timed one by one."""

from __future__ import annotations

import importlib
import sys
from itertools import accumulate, count

import pytest
import torch
from golden_keys import V1, recorded_keys
from safetensors.torch import load_file

pytest.importorskip("diffusers")

from benchmarks import sampling, sampling_cpp

NAME = "stable_diffusion_cpp"
STAND_IN = r'''
"""Stands in for stable-diffusion-cpp-python: it draws nothing and keeps what it was asked."""

__version__ = "0.0"
told, given = [], {}


def sd_get_system_info():
    return b"System Info: \n    AVX2 = 1 |     AVX512 = 0 |     FMA = 1 | "


def sd_set_progress_callback(callback, data):
    told.append(f"callback {callback}")


class StableDiffusion:
    def __init__(self, **words):
        given.update(words)
        told.append("load")

    def generate_image(self, prompt, negative_prompt, *, sample_steps, progress_callback, **words):
        given.update(words)
        told.append(sample_steps)
        for step in range(sample_steps + 1):
            progress_callback(step, sample_steps, 0.0)

    def close(self):
        told.append("close")
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The stand-in, where Python finds it."""
    (tmp_path / f"{NAME}.py").write_text(STAND_IN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    yield importlib.import_module(NAME)
    del sys.modules[NAME]


@pytest.fixture(scope="module")
def twins():
    return sampling.make_twins(narrow=True)


def test_the_files_hold_our_unet_under_v1s_names_and_are_deleted(twins):
    ours, _ = twins
    with sampling_cpp.files_for_cpp(ours) as folder:
        state = load_file(folder / sampling_cpp.MODEL)
        decoder = load_file(folder / sampling_cpp.DECODER)
    assert not folder.exists()
    for name, value in ours.state_dict().items():
        assert torch.equal(state.pop(f"model.diffusion_model.{name}"), value)
    text = {k: s for k, s in recorded_keys()[V1].items() if k.startswith("cond_stage_model.")}
    text = {name: shape for name, shape in text.items() if not name.endswith("position_ids")}
    assert {name: list(value.shape) for name, value in state.items()} == text
    assert decoder["decoder.layers.0.weight"].shape == (64, 4, 3, 3)


def test_it_takes_turns_with_the_others_and_has_no_x_to_compare(package, twins, tmp_path):
    case = sampling.Case("cpu", "float32", 64, steps=2, rounds=3)
    result = sampling.measure(case, *twins, tmp_path)
    name = "stable-diffusion.cpp f32"
    assert len(result.seconds[name]) == len(result.seconds["ours"]) == 6
    assert name not in result.apart
    assert "diffusers" in result.apart
    (row,) = (line for line in sampling.rows_of(result) if name in line)
    assert row.split("|")[6].strip() == "-"
    # One picture a turn; C is never left with a callback that Python has let go of.
    assert package.told == ["load", *[2, "callback None"] * 4, "close"]


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("float32", "f32"), ("bfloat16", "bf16"), ("float16", "f16")]
)
def test_it_is_asked_for_the_same_work(package, tmp_path, dtype, wanted):
    side = sampling_cpp.InStableDiffusionCpp(tmp_path, dtype, 128)
    side.draw(1)
    assert side.name.endswith(f" {wanted}")
    assert package.given["wtype"] == wanted
    assert package.given["n_threads"] == torch.get_num_threads()
    assert (package.given["width"], package.given["height"]) == (128, 128)
    assert package.given["cfg_scale"] == sampling.SCALE
    assert package.given["sample_method"] == "ddim_trailing"


def test_a_step_takes_the_time_from_one_call_to_the_next(package, tmp_path, monkeypatch):
    side = sampling_cpp.InStableDiffusionCpp(tmp_path, "float32", 64)
    clock = accumulate(count())  # 0, 1, 3, 6, ...
    monkeypatch.setattr(sampling_cpp.time, "perf_counter", lambda: next(clock))
    assert side.draw(3) == ([1, 2, 3], None)


def test_a_picture_that_was_not_drawn_is_no_measurement(package, tmp_path, monkeypatch):
    side = sampling_cpp.InStableDiffusionCpp(tmp_path, "float32", 64)
    monkeypatch.setattr(package.StableDiffusion, "generate_image", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match="0 times for 3 steps"):
        side.draw(3)


def test_the_note_says_what_the_package_was_built_with(package):
    assert "package 0.0, built with AVX2, FMA;" in sampling_cpp.cpp_note(narrow=False)


def test_narrow_leaves_it_out_with_a_word(package, capsys):
    command = "--narrow --size 64 --steps 1 --rounds 1 --device cpu --dtype float32"
    (result,) = sampling.main(command.split())
    assert not any("cpp" in name for name in result.seconds)
    assert sampling_cpp.NARROW_NOTE in capsys.readouterr().out
    assert not package.told
