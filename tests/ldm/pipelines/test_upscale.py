"""Super-resolution: sizes, what a result depends on, patches, and what is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from family_models import write_family_model
from PIL import Image
from running import ROOT

from ldm.checkpoint.load import load_model
from ldm.config import load_config
from ldm.errors import UserError
from ldm.pipelines.cancelling import Cancel, Cancelled
from ldm.pipelines.upscale import Upscaler
from ldm.settings.upscale import UpscaleSettings
from ldm.util import instantiate_from_config

SHORT = UpscaleSettings(steps=2, tile=0)
FACTOR = 2  # of the small model's first stage; bsr_sr has 4


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_family_model(tmp_path_factory.mktemp("models") / "sr", "upscaling")
    return load_model(folder / "config.yaml", folder / "model.safetensors")[0]


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def results(model, image, settings=SHORT) -> list[np.ndarray]:
    return list(Upscaler(model, settings, lambda event: None).pictures(image))


@pytest.mark.parametrize("size", [(8, 8), (9, 13), (1, 5), (6, 11)])
def test_a_picture_of_any_size_becomes_as_many_times_larger_as_the_first_stage_says(model, size):
    (result,) = results(model, picture(*size))
    assert result.shape == (FACTOR * size[1], FACTOR * size[0], 3)
    assert result.dtype == np.uint8


def test_the_model_is_given_the_picture_itself_between_minus_1_and_1(model):
    image = picture(8, 6)
    cond = Upscaler(model, SHORT).condition(image)
    expected = torch.from_numpy(np.array(image)).movedim(-1, 0)[None] / 127.5 - 1
    torch.testing.assert_close(cond, expected)
    padded = Upscaler(model, SHORT).condition(picture(7, 5))
    assert padded.shape == (1, 3, 6, 8)
    whole = Upscaler(model, SHORT).condition(picture(7, 5).crop((0, 0, 7, 5)))
    assert torch.equal(padded[..., :5, :7], whole[..., :5, :7])


def test_a_result_depends_on_the_picture_and_the_seed_alone(model):
    image = picture(8, 8)
    first, second = results(model, image, replace(SHORT, n_samples=2))
    torch.randn(7)
    assert np.array_equal(results(model, image)[0], first)
    assert np.array_equal(results(model, image, replace(SHORT, seed=43))[0], second)
    assert not np.array_equal(first, second)
    assert not np.array_equal(results(model, picture(8, 8, seed=1))[0], first)


def test_a_picture_no_larger_than_a_patch_is_not_cut(model):
    image = picture(8, 8)
    cut = results(model, image, replace(SHORT, tile=8))[0].astype(int)
    assert np.abs(cut - results(model, image)[0]).max() <= 1
    assert "split_input_params" not in vars(model)


def test_a_larger_picture_is_made_of_patches_of_the_size_that_was_asked(model):
    seen = []
    unet = model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape[-2:])))
    try:
        (result,) = results(model, picture(20, 12), replace(SHORT, tile=8))
    finally:
        handle.remove()
    assert set(seen) == {(8, 8)} and result.shape == (24, 40, 3)


def test_it_can_be_cancelled_between_the_operations_of_a_step(model):
    class Late(Cancel):
        looks = 0

        def check(self):
            self.looks += 1
            if self.looks == 30:
                self.cancel()
            super().check()

    events = []
    with pytest.raises(Cancelled):
        list(Upscaler(model, SHORT, events.append, Late()).pictures(picture(8, 8)))
    assert len(events) < SHORT.steps
    assert not any(each._forward_pre_hooks for each in model.modules())


def test_progress_is_told_to_the_end(model):
    events = []
    list(Upscaler(model, replace(SHORT, n_samples=2), events.append).pictures(picture(8, 8)))
    assert [event.done for event in events] == [1, 2, 3, 4]
    assert (events[-1].total, events[-1].pictures) == (4, 2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "--steps 0"),
        ({"n_samples": 0}, "--n_samples 0"),
        ({"eta": -0.1}, "--eta -0.1"),
        ({"seed": -1}, "--seed -1"),
        ({"tile": 6}, "--tile 6 .*multiple of 4"),
        ({"tile": -4}, "--tile -4"),
    ],
)
def test_what_is_out_of_range_is_told(model, values, words):
    with pytest.raises(UserError, match=words):
        Upscaler(model, replace(SHORT, **values))


def test_a_model_of_another_kind_is_told(tmp_path):
    folder = write_family_model(tmp_path, "class")
    model, _ = load_model(folder / "config.yaml", folder / "model.safetensors")
    with pytest.raises(UserError, match="'crossattn'.*expected 'concat' and 7"):
        Upscaler(model, SHORT)


def test_the_published_models_configuration_is_one_of_super_resolution_by_4():
    config = load_config(ROOT / "models" / "ldm" / "bsr_sr" / "config.yaml")
    with torch.device("meta"):
        model = instantiate_from_config(config.model)
    upscaler = Upscaler(model, UpscaleSettings())
    assert (upscaler.factor, upscaler.multiple) == (4, 8)
