"""Small pictures of what is being drawn: what they show, when, and of which models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawing import draw, text_settings
from omegaconf import OmegaConf

from ldm.errors import UserError
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.previewing import (
    V1_FACTORS,
    Glimpses,
    Preview,
    fit_preview,
    preview_of,
)
from ldm.pipelines.progress import Notice
from ldm.pipelines.together import draw_together
from ldm.settings.generation import Txt2ImgSettings
from ldm.types import SamplerState

GREY = ((1.0, 1.0, 1.0),)


def choice_with(pipeline, **entries):
    config = OmegaConf.merge(pipeline.choice.config, OmegaConf.create(entries))
    return replace(pipeline.choice, config=config)


def test_each_latent_position_is_a_pixel_of_the_colour_that_the_factors_say():
    preview = Preview(((1.0, 0.0, 0.0), (0.0, 0.0, -1.0)), (0.0, 1.0, 0.0))
    latents = torch.tensor([[[[1.0, -1.0]], [[0.0, 9.0]]]])  # (1, 2, 1, 2)
    assert preview(latents).tolist() == [[[[255, 255, 127], [0, 255, 0]]]]


def test_the_fit_finds_a_linear_decoder_again():
    torch.manual_seed(0)
    latents = torch.randn(3, 4, 8, 8)
    factors = torch.tensor([[0.3, 0.2, 0.3], [0.3, 0.5, 0.2], [-0.2, 0.1, 0.2], [0.0, -0.2, 0.5]])
    bias = torch.tensor([0.1, -0.1, 0.05])
    small = torch.einsum("bchw,cr->brhw", latents, factors) + bias[None, :, None, None]
    found, error = fit_preview(latents, small.repeat_interleave(2, 2).repeat_interleave(2, 3))
    assert torch.allclose(torch.tensor(found.factors), factors, atol=1e-4)
    assert torch.allclose(torch.tensor(found.bias), bias, atol=1e-4)
    assert error < 1e-4


def test_a_pixel_may_be_made_of_the_positions_around_it():
    rows = [(0.0, 0.0, 0.0)] * 9
    rows[3] = (1.0, 0.0, 0.0)  # the second line's first: what is to the left
    rows[7] = (0.0, 1.0, 0.0)  # the third line's second: what is below
    latents = torch.tensor([[[[1.0, 0.0], [-1.0, 0.0]]]])
    pixels = Preview(tuple(rows), (0.0, 0.0, 0.0))(latents)[0]
    assert pixels[:, :, 0].tolist() == [[255, 255], [0, 0]]  # beyond the edge is the edge
    assert pixels[:, :, 1].tolist() == [[0, 127], [0, 127]]
    torch.manual_seed(0)
    latents = torch.randn(4, 4, 8, 8)
    padded = torch.nn.functional.pad(latents, (1, 1, 1, 1), mode="replicate")
    blurred = torch.nn.functional.avg_pool2d(padded, 3, 1)[:, :3]
    alone, around = (fit_preview(latents, blurred, around=each) for each in (False, True))
    assert around[1] < 1e-5 < alone[1]
    assert len(around[0].factors) == 36


def test_models_with_stable_diffusions_autoencoder_have_its_published_factors(pipeline):
    assert preview_of(pipeline.choice) == Preview(V1_FACTORS)


def test_a_models_yaml_says_its_own(pipeline):
    rows = [[0.5, 0.5, 0.5]] * 4
    found = preview_of(choice_with(pipeline, preview={"factors": rows, "bias": [0, 0, 1]}))
    assert found == Preview(((0.5, 0.5, 0.5),) * 4, (0, 0, 1))


@pytest.mark.parametrize(
    "entry",
    [
        "grey",
        {"factors": [[1, 1, 1]]},
        {"factors": [[1, 1]] * 4},
        {"factors": [[1, 1, "x"]] * 4},
        {"factors": [[1, 1, 1]] * 4, "bias": [1]},
        {"factors": [[1, 1, 1]] * 4, "scale": 2},
        {"factors": [[1, 1, float("nan")]] * 4},
    ],
)
def test_an_entry_that_is_no_preview_is_said_in_a_line(pipeline, entry):
    with pytest.raises(UserError, match="preview is .* of 4 channels"):
        preview_of(choice_with(pipeline, preview=entry))


def state_of(step):
    x = torch.full((2, 1, 2, 2), float(step))
    return SamplerState(x, x, x, step, 0.0, 4)


def test_glimpses_come_now_and_then_and_of_wanted_pictures_only():
    now, seen = [0.0], []
    glimpses = Glimpses(Preview(GREY), seen.append, every=1.0, clock=lambda: now[0])
    for step in range(4):
        now[0] += 0.6
        glimpses.take(state_of(step), {1: 7})
    assert [(each.step, each.steps, each.numbers) for each in seen] == [(1, 4, (7,)), (3, 4, (7,))]
    assert seen[0].pixels.shape == (1, 2, 2, 3)


def test_a_run_shows_each_of_its_steps_where_no_time_has_to_pass(pipeline):
    seen = []
    settings = text_settings(n_iter=2)
    plain, _ = draw(pipeline, settings)
    pictures, _ = draw(pipeline, settings, preview=seen.append, every=0.0)
    assert [each.step for each in seen] == [1, 2, 3, 4] * 2
    assert [each.numbers for each in seen[::4]] == [(0, 1), (2, 3)]
    assert {each.pixels.shape for each in seen} == {(2, 8, 8, 3)}
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(plain, pictures, strict=True))


def test_requests_that_are_drawn_together_are_shown_by_their_indices(pipeline):
    settings = [text_settings(n_iter=1, n_samples=1, seed_mode="per-image", seed=k) for k in (1, 2)]
    requests, seen = [pipeline.prepare(each) for each in settings], []
    watched = {"preview": seen.append, "every": 0.0}
    list(draw_together(pipeline, requests, observer=lambda _: None, **watched))
    assert [(each.step, each.numbers) for each in seen] == [(k, (0, 1)) for k in (1, 2, 3, 4)]


def test_a_model_without_factors_says_so_and_draws(pipeline, monkeypatch):
    other = choice_with(pipeline, model={"params": {"scale_factor": 0.5}})
    monkeypatch.setattr(pipeline, "choice", other)
    seen = []
    pictures, events = draw(pipeline, text_settings(), preview=seen.append)
    texts = [event.text for event in events if isinstance(event, Notice)]
    assert any("No preview" in text and "fit_preview" in text for text in texts)
    assert pictures and not seen


def test_the_bundled_models_glimpses_look_like_its_picture():
    bundled = Pipeline.load("models/ldm/demo/model.safetensors", device="cpu")
    settings = bundled.settings(
        Txt2ImgSettings, prompt="a red apple on a blue background", n_samples=1, n_iter=1
    )
    seen = []
    picture = next(bundled.generate(settings, preview=seen.append, every=0.0))
    small = picture.pixels.reshape(16, 4, 16, 4, 3).mean(axis=(1, 3))
    flat = np.abs(small - small.mean(axis=(0, 1))).mean()  # how far the mean colour alone is away
    for glimpse in seen[len(seen) // 2 :]:
        assert np.abs(small - glimpse.pixels[0]).mean() < 0.6 * flat
