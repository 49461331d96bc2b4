"""Pictures drawn twice: small, then enlarged and redrawn; and redrawn the same from their files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from upscaler_files import write_nearest

from ldm.errors import UserError
from ldm.images.io import save_picture, to_tensor, to_uint8
from ldm.models.diffusion.latent_diffusion import LatentSpaceDiffusion
from ldm.pipelines import adapter_files, room
from ldm.pipelines.grouping import can_share
from ldm.pipelines.infotext import read_picture
from ldm.pipelines.pipeline import Pipeline
from ldm.pipelines.progress import Notice, Progress
from ldm.pipelines.request import prepare_from_flags
from ldm.pipelines.room import check_room
from ldm.pipelines.run import Run
from ldm.pipelines.staging import Staging
from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.hires import LABELS

FAST = {"prompt": "a cat", "ddim_steps": 3, "n_samples": 1, "n_iter": 1, "H": 12, "W": 16}
FAST |= {"safety_checker": "off", "watermark": "off"}


def settings(**changes):
    return Txt2ImgSettings(**{**FAST, "hires": 2.0, **changes})


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A working folder with a network on the shelf, which repeats pixels."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(adapter_files, "ROOT", tmp_path)
    return write_nearest(tmp_path / "models/upscalers/nearest.pth")


def latents_of(pipeline, wanted, monkeypatch):
    """Return the latents that are decoded, one after the other."""
    seen, own = [], LatentSpaceDiffusion.decode_first_stage
    spy = lambda model, z, *rest, **more: seen.append(z) or own(model, z, *rest, **more)  # noqa: E731
    monkeypatch.setattr(LatentSpaceDiffusion, "decode_first_stage", spy)
    list(pipeline.generate(wanted))
    monkeypatch.setattr(LatentSpaceDiffusion, "decode_first_stage", own)
    return seen


@pytest.mark.parametrize("way", LABELS)
def test_without_strength_the_picture_is_the_enlarged_one(pipeline, way, monkeypatch):
    (small,) = latents_of(pipeline, settings(hires=None), monkeypatch)
    *_, large = latents_of(pipeline, settings(hires_strength=0.0, hires_upscaler=way), monkeypatch)
    if way == "lanczos":
        with torch.no_grad():
            pixels = Image.fromarray(to_uint8(pipeline.model.decode_first_stage(small))[0])
            pixels = to_tensor(pixels.resize((32, 24), Image.Resampling.LANCZOS))
            encoded = pipeline.model.encode_first_stage(pixels)
            expected = pipeline.model.get_first_stage_encoding(encoded.mode())
    else:
        mode = next(
            m
            for m in ("nearest-exact", "nearest", "bicubic", "bilinear")
            if m in way or m == "bilinear"
        )
        smooth = {"antialias": True} if "antialiased" in way else {}
        expected = F.interpolate(small, (12, 16), mode=mode, **smooth)
    torch.testing.assert_close(large, expected)


def test_the_second_walk_begins_at_its_strength_and_at_the_final_size(pipeline, monkeypatch):
    own, seen = LatentSpaceDiffusion._predict, []

    def spy(model, x, t, cond):
        seen.append((x.shape[-2:], int(t[0])))
        return own(model, x, t, cond)

    monkeypatch.setattr(LatentSpaceDiffusion, "_predict", spy)
    told = []
    wanted = settings(hires_steps=10, hires_strength=0.5)
    (picture,) = pipeline.generate(wanted, observer=told.append)
    assert picture.pixels.shape == (24, 32, 3)
    sizes = [tuple(size) for size, _ in seen]
    first = sizes.count((6, 8))
    assert sizes == [(6, 8)] * first + [(12, 16)] * 5
    assert max(t for size, t in seen if tuple(size) == (12, 16)) < 500
    steps = [event for event in told if isinstance(event, Progress)]
    assert steps[-1].done == steps[-1].total == first + 5


@pytest.mark.parametrize("seed_mode", ["compvis", "per-image"])
@pytest.mark.parametrize("sampler", ["ddim", "euler_a", "dpm_solver"])
def test_a_picture_of_a_run_is_drawn_again_from_its_file(pipeline, tmp_path, sampler, seed_mode):
    wanted = settings(
        n_samples=2, n_iter=2, sampler=sampler, seed_mode=seed_mode, hires=1.5, hires_strength=0.6
    )
    third = list(pipeline.generate(wanted))[2]
    path = str(save_picture(third.pixels, tmp_path / "a.png", metadata=third.parameters))
    values, place = read_picture(path, Txt2ImgSettings).rerun({})
    again = Txt2ImgSettings(**{**values, "safety_checker": "off", "watermark": "off"})
    (drawn,) = pipeline.generate(again, place=place)
    assert np.array_equal(drawn.pixels, third.pixels)


def test_on_a_small_device_the_picture_is_the_same(pipeline, tiny_ckpt):
    staged = Pipeline.load(tiny_ckpt, device="cpu", staging=Staging())
    wanted = settings(hires_upscaler="lanczos")
    (plain,), (small,) = pipeline.generate(wanted), staged.generate(wanted)
    assert np.array_equal(small.pixels, plain.pixels)


def test_rows_of_a_batch_do_not_influence_one_another(pipeline):
    one = {"seed_mode": "per-image", "hires_upscaler": "lanczos"}
    _, second = pipeline.generate(settings(n_samples=2, **one))
    (alone,) = pipeline.generate(settings(seed=43, **one))
    difference = second.pixels.astype(int) - alone.pixels
    assert np.abs(difference).max() <= 1  # a batch adds in another order


def test_the_entries_are_automatic1111s(pipeline):
    wanted = settings(hires_steps=7, hires_strength=0.55)
    (picture,) = pipeline.generate(wanted)
    text = picture.parameters
    for entry in ("Size: 16x12", "Hires upscale: 2", "Hires steps: 7", "Hires upscaler: Latent"):
        assert entry in text
    assert "Denoising strength: 0.55" in text
    (plain,) = pipeline.generate(settings(hires=None, hires_strength=0.55))
    assert "Hires" not in plain.parameters and "Denoising" not in plain.parameters


def test_another_programs_hires_fix_is_read(tmp_path, shelf):
    text = (
        "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, "
        "Hires upscale: 1.5, Hires steps: 8, Denoising strength: 0.4, Hires upscaler: "
    )
    pixels = np.zeros((8, 8, 3), np.uint8)
    for number, (label, name) in enumerate(
        [("Latent (bicubic)", "latent-bicubic"), ("nearest", "nearest"), ("Unheard of", None)]
    ):
        path = save_picture(pixels, tmp_path / f"{number}.png", metadata=text + label)
        recorded = read_picture(str(path), Txt2ImgSettings)
        read = {k: v for k, v in recorded.values.items() if k.startswith("hires")}
        named = {} if name is None else {"hires_upscaler": name}
        assert read == {"hires": 1.5, "hires_steps": 8, "hires_strength": 0.4, **named}
        said = " ".join(recorded.notices)
        assert ("'Unheard of' is unknown here" in said) == (name is None)
        assert "not done here" not in said


def test_a_network_enlarges_and_its_file_is_recorded(pipeline, shelf, tmp_path):
    (picture,) = pipeline.generate(settings(hires_upscaler="nearest"))
    (by_path,) = pipeline.generate(settings(hires_upscaler=str(shelf)))
    assert np.array_equal(picture.pixels, by_path.pixels)
    assert "Hires upscaler: nearest, " in picture.parameters + ", "
    path = str(save_picture(picture.pixels, tmp_path / "a.png", metadata=picture.parameters))
    recorded = read_picture(path, Txt2ImgSettings)
    assert recorded.values["hires_upscaler"] == "nearest" and recorded.notices == []
    shelf.unlink()
    write_nearest(shelf, scale=3)
    assert any("another nearest" in text for text in read_picture(path, Txt2ImgSettings).notices)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hires": 0.5}, "--hires 0.5"),
        ({"hires": 16.0, "W": 8000, "H": 8000}, "makes the pictures 128000x128000"),
        ({"hires_steps": 2000}, "--hires_steps 2000"),
        ({"hires_strength": 1.5}, "--hires_strength 1.5"),
        ({"hires_upscaler": "nowhere"}, "--hires_upscaler 'nowhere' is no file"),
        ({"hires_upscaler": ""}, "--hires_upscaler ''"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_before_anything_is_loaded(tiny_ckpt, changes, words):
    given = {**FAST, "hires": 2.0, "ckpt": str(tiny_ckpt), **changes}
    with pytest.raises(UserError, match=words):
        prepare_from_flags(Txt2ImgSettings, given)


def test_what_has_no_effect_is_said(pipeline):
    told = []
    wanted = settings(hires=None, hires_steps=4, hires_upscaler="lanczos")
    list(pipeline.generate(wanted, observer=told.append))
    texts = [event.text for event in told if isinstance(event, Notice)]
    assert "--hires_steps 4 has no effect without --hires" in texts
    assert "--hires_upscaler lanczos has no effect without --hires" in texts
    list(pipeline.generate(settings(hires_strength=0.1), observer=told.append))
    assert any("leaves no steps" in event.text for event in told if isinstance(event, Notice))


def test_a_request_that_is_drawn_twice_shares_no_batch(pipeline):
    one = {"seed_mode": "per-image"}
    assert can_share(pipeline.prepare(settings(hires=None, **one)))
    assert not can_share(pipeline.prepare(settings(**one)))


def test_the_final_size_is_a_multiple_that_the_model_draws(pipeline):
    request = pipeline.prepare(settings(hires=1.3))
    assert request.size == (12, 16) and request.final_size == request.shown_size == (16, 20)
    first, last = 12 * 16 * 3, 16 * 20 * 2
    assert request.pixel_steps == first + last


def test_a_batch_in_parts_gives_the_pictures_of_the_whole(pipeline, monkeypatch):
    wanted = settings(n_samples=3, hires_upscaler="lanczos", hires_strength=0.6, sampler="euler_a")
    whole = [picture.pixels for picture in pipeline.generate(wanted)]
    monkeypatch.setattr(Run, "_rows_at_once", lambda _: 2)
    parts = [picture.pixels for picture in pipeline.generate(wanted)]
    assert len(whole) == len(parts) == 3
    for one, other in zip(whole, parts, strict=True):
        assert np.abs(one.astype(int) - other).max() <= 1  # a batch adds in another order


def test_memory_is_asked_for_by_the_final_size(pipeline, monkeypatch):
    monkeypatch.setattr(room, "free_memory", lambda: 2**20)
    with pytest.raises(UserError, match="a picture of 64x48"):
        check_room(pipeline.prepare(settings(hires=4.0)), pipeline)
