"""Image-to-image in tiles: one walk over the whole canvas, whatever the tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_model import MULTIPLE, SIZE
from upscaler_files import write_nearest

from ldm.errors import UserError
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.modules.attention_control.parts import part_of_call
from ldm.pipelines.pipeline import Pipeline
from ldm.settings.generation import Img2ImgSettings
from ldm.settings.upscale_tile import TileUpscaleSettings

FAST = {"ddim_steps": 4, "strength": 0.75, "safety_checker": "off", "watermark": "off"}


@pytest.fixture(scope="module")
def pipeline(tiny_ckpt):
    return Pipeline.load(tiny_ckpt, device="cpu")


@pytest.fixture(scope="module")
def small():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    return Image.fromarray(pixels).resize((20, 16), Image.Resampling.BICUBIC)


def settings(**changes):
    return TileUpscaleSettings(**{"prompt": "a cat", **FAST, **changes})


def draw(pipeline, picture, **changes):
    return next(pipeline.generate(settings(**changes), image=picture)).pixels


def local(self, x, t, cond):
    """Stand in for a network that sees each place by itself, and the prompt."""
    tokens = cond["c_crossattn"][0].mean(dim=(1, 2))[:, None, None, None]
    return torch.tanh(x.flip(1) + 0.3 * tokens) * (1 + t[:, None, None, None] / 2000)


def latents_of(pipeline, wanted, picture, monkeypatch):
    """Return the latents that are decoded."""
    seen = []
    own = LatentSpaceDiffusion.decode_first_stage

    def spy(model, z, *args, **kwargs):
        seen.append(z)
        return own(model, z, *args, **kwargs)

    monkeypatch.setattr(LatentSpaceDiffusion, "decode_first_stage", spy)
    list(pipeline.generate(wanted, image=picture))
    return seen[0]


@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "dpm_solver"])
@pytest.mark.parametrize(("tile", "overlap"), [(16, 8), (8, 2), (12, 0)])
def test_a_network_that_sees_each_place_by_itself_draws_the_same_in_tiles_as_whole(
    pipeline, small, monkeypatch, sampler, tile, overlap
):
    monkeypatch.setattr(LatentSpaceDiffusion, "_predict", local)
    common = {"prompt": "a cat", "sampler": sampler, **FAST}
    tiled = TileUpscaleSettings(**common, factor=2.0, tile=tile, overlap=overlap)
    in_tiles = latents_of(pipeline, tiled, small, monkeypatch)
    whole = Img2ImgSettings(**common, n_samples=1)
    enlarged = small.resize((40, 32), Image.Resampling.LANCZOS)
    in_one = latents_of(pipeline, whole, enlarged, monkeypatch)
    assert in_tiles.shape == (1, 4, 16, 20)
    assert (in_tiles - in_one).abs().max() <= 1e-6 * in_one.abs().max().clamp(min=1)


def test_each_step_sees_every_tile_once_and_the_network_never_more_than_one(
    pipeline, small, monkeypatch
):
    own, seen = LatentSpaceDiffusion._predict, []

    def spy(self, x, t, cond):
        part = part_of_call()
        seen.append((int(t[0]), part.rows, part.columns, part.height, part.width))
        assert x.shape == (2, 4, 8, 8)  # cond and uncond of one tile
        return own(self, x, t, cond)

    monkeypatch.setattr(LatentSpaceDiffusion, "_predict", spy)
    draw(pipeline, small, factor=2.0, tile=16, overlap=8)
    rows, columns = [(0, 8), (4, 12), (8, 16)], [(0, 8), (4, 12), (8, 16), (12, 20)]
    grid = [(a, b, 16, 20) for a in rows for b in columns]
    times = list(dict.fromkeys(time for time, *_ in seen))
    assert len(times) == 3 and seen == [(time, *place) for time in times for place in grid]
    assert part_of_call() is None and not hasattr(pipeline.model, "split_input_params")


def test_the_result_has_exactly_the_size_asked_for_and_does_not_depend_on_padding(pipeline, small):
    odd = small.crop((0, 0, 13, 9))
    assert draw(pipeline, odd, factor=2.5).shape == (round(9 * 2.5), round(13 * 2.5), 3)
    assert draw(pipeline, odd, factor=1.0, tile=8).shape == (9, 13, 3)


def test_without_strength_nothing_is_drawn_anew(pipeline, small, monkeypatch):
    own = LatentSpaceDiffusion._predict
    monkeypatch.setattr(LatentSpaceDiffusion, "_predict", None)
    wanted = settings(factor=2.0, strength=0.0)
    kept = latents_of(pipeline, wanted, small, monkeypatch)
    monkeypatch.setattr(LatentSpaceDiffusion, "_predict", own)
    enlarged = small.resize((40, 32), Image.Resampling.LANCZOS)
    same = Img2ImgSettings(**{**FAST, "strength": 0.0}, n_samples=1)
    # The strips of the autoencoder are rounded otherwise.
    torch.testing.assert_close(
        kept, latents_of(pipeline, same, enlarged, monkeypatch), atol=1e-5, rtol=1e-5
    )


def test_the_autoencoder_works_in_strips_and_is_left_as_it_was(pipeline, small, monkeypatch):
    from ldm.models.tiling import tiled

    calls = []
    for name in ("encode_in_tiles", "decode_in_tiles"):
        own = getattr(tiled, name)
        monkeypatch.setattr(
            tiled, name, lambda *a, own=own, name=name: calls.append(name) or own(*a)
        )
    before = dict(vars(pipeline.model.first_stage_model))
    draw(pipeline, small)
    assert calls == ["encode_in_tiles", "decode_in_tiles"]
    assert vars(pipeline.model.first_stage_model).keys() == before.keys()


def test_seeds_and_prompts_tell_results_apart_and_the_same_ones_repeat(pipeline, small):
    first = draw(pipeline, small, seed=1)
    assert (first == draw(pipeline, small, seed=1)).all()
    assert (first != draw(pipeline, small, seed=2)).any()
    assert (first != draw(pipeline, small, seed=1, prompt="a house")).any()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tile": 10}, f"expected a multiple of {MULTIPLE}"),
        ({"tile": 16, "overlap": 16}, "--overlap 16"),
        ({"factor": 0.5}, "--factor 0.5"),
        ({"factor": 64.0, "max_pixels": 1000}, "--factor 64 makes the picture 1280x1024"),
        ({"strength": 1.5}, "--strength 1.5"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_in_one_line(pipeline, small, changes, words):
    with pytest.raises(UserError) as caught:
        pipeline.prepare(settings(**changes), image=small)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_tiles_default_to_the_models_own_size_and_overlap_by_half():
    assert settings().tiling(SIZE, MULTIPLE) == (16, 8)
    assert settings(tile=512).tiling(512, 64) == (512, 256)
    assert settings(tile=64).tiling(512, 64) == (64, 32)


def test_a_network_may_enlarge_the_picture_before_it_is_redrawn(
    pipeline, small, tmp_path, monkeypatch
):
    network = str(write_nearest(tmp_path / "nearest.pth"))
    repeated = Image.fromarray(np.asarray(small).repeat(2, 0).repeat(2, 1))
    wanted = settings(factor=2.0, upscaler=network)
    by_network = latents_of(pipeline, wanted, small, monkeypatch)
    as_if = latents_of(pipeline, settings(factor=1.0), repeated, monkeypatch)
    assert torch.equal(by_network, as_if)
    picture = next(pipeline.generate(wanted, image=small))
    assert "SD upscale upscaler: nearest" in picture.parameters
    assert "SD upscale upscaler hash" in picture.parameters
    plain = next(pipeline.generate(settings(factor=2.0), image=small))
    assert "SD upscale" not in plain.parameters


def test_a_network_that_is_not_there_is_one_line(pipeline, small):
    with pytest.raises(UserError, match="--upscaler 'nowhere' is no file"):
        pipeline.prepare(settings(upscaler="nowhere"), image=small)
