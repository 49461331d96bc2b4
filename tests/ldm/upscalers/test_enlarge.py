"""Pictures become larger by any factor, with their transparency; memory and users have limits."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from upscaler_files import nearest_network, random_network

from ldm.errors import UserError
from ldm.upscalers.enlarge import LARGEST_PIXELS, TileProgress, passes_to, upscale, upscale_to
from ldm.upscalers.upscaler import load_upscaler


@pytest.fixture(scope="module")
def nearest(tmp_path_factory):
    path = tmp_path_factory.mktemp("networks") / "nearest.pth"
    torch.save(nearest_network(2).state_dict(), path)
    return load_upscaler(path)


def noise(width, height, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(40, 24), (200, 90), (1, 1)])
def test_what_the_network_makes_is_what_comes_out(nearest, size):
    image = noise(*size)
    expected = np.asarray(image).repeat(2, 0).repeat(2, 1)
    for tile in (64, 0):
        assert np.array_equal(np.asarray(upscale(image, nearest, tile=tile)), expected)


@pytest.mark.parametrize(
    ("factor", "passes", "size"),
    [
        (2, 1, (80, 48)),
        (1.5, 1, (60, 36)),
        (3, 2, (120, 72)),
        (5, 3, (200, 120)),
        (0.5, 1, (20, 12)),
    ],
)
def test_any_factor_is_the_network_as_often_as_needed_then_lanczos(nearest, factor, passes, size):
    image, done = noise(40, 24), []
    made = upscale(image, nearest, factor=factor, observer=done.append)
    assert made.size == size and passes_to(image.size, size, 2) == passes
    many = np.asarray(image).repeat(2**passes, 0).repeat(2**passes, 1)
    lanczos = Image.fromarray(many).resize(size, Image.Resampling.LANCZOS)
    assert np.array_equal(np.asarray(made), np.asarray(lanczos))
    assert done[-1].done == done[-1].total and len(done) == done[-1].total


def test_tiles_change_no_picture_by_more_than_rounding(tmp_path):
    torch.save(random_network("Compact").state_dict(), tmp_path / "net.pth")
    upscaler, image = load_upscaler(tmp_path / "net.pth"), noise(150, 130)
    whole, tiled = (
        np.asarray(upscale(image, upscaler, tile=tile, overlap=16), np.int16) for tile in (0, 64)
    )
    assert np.abs(whole - tiled).max() <= 1


def test_transparency_is_kept_and_nothing_dark_comes_out_of_it(nearest):
    disc = np.zeros((64, 64, 4), np.uint8)
    y, x = np.mgrid[:64, :64]
    disc[(x - 32) ** 2 + (y - 32) ** 2 < 400] = (250, 40, 40, 255)
    image = Image.fromarray(disc)
    made = np.asarray(upscale(image, nearest, factor=3))
    alpha = image.getchannel("A").resize((192, 192), Image.Resampling.LANCZOS)
    assert made.shape == (192, 192, 4) and np.array_equal(made[..., 3], np.asarray(alpha))
    assert made[made[..., 3] > 0][:, 0].min() >= 245


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (noise(20, 10, "RGB").convert("L"), "RGB"),
        (noise(20, 10, "RGBA").convert("LA"), "RGBA"),
        (noise(20, 10).quantize(8), "RGB"),
        (Image.fromarray(np.linspace(0, 65535, 200).astype(np.uint16).reshape(10, 20)), "RGB"),
    ],
)
def test_pictures_of_every_mode_are_taken(nearest, image, mode):
    made = upscale(image, nearest)
    assert made.size == (40, 20) and made.mode == mode


def short_of_memory(upscaler, most):
    """Return an upscaler whose device holds no tile beyond ``most`` pixels on a side."""

    def network(x):
        if max(x.shape[-2:]) > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return upscaler.network(x)

    known = ("scale", "input_channels", "size_requirements", "tiling", "architecture")
    known = {name: getattr(upscaler.network, name) for name in known}
    fake = type("Short", (SimpleNamespace,), {"__call__": lambda _, x: network(x)})(**known)
    return replace(upscaler, network=fake)


@pytest.mark.parametrize("tile", [256, 0])
def test_where_memory_runs_out_tiles_become_smaller(nearest, tile):
    image, told = noise(300, 200), []
    short = short_of_memory(nearest, 100)
    made = upscale(image, short, tile=tile, observer=told.append)
    assert np.array_equal(np.asarray(made), np.asarray(upscale(image, nearest)))
    assert told[-1].tile <= 100 and told[-1].done == told[-1].total
    with pytest.raises(RuntimeError, match="allocate"):
        upscale(image, short_of_memory(nearest, 40))


def test_an_observer_may_end_the_work(nearest):
    class Ended(Exception):
        pass

    def end(progress: TileProgress) -> None:
        raise Ended(progress.done)

    with pytest.raises(Ended, match="1"):
        upscale(noise(300, 300), nearest, tile=64, observer=end)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"factor": 0.0}, "a factor of 0"),
        ({"factor": 65.0}, "a factor of 65"),
        ({"factor": float("nan")}, "a factor of nan"),
        ({"tile": 10}, "tiles of 10 pixels"),
        ({"tile": 64, "overlap": 40}, "overlap by 40"),
        ({"overlap": -1}, "overlap by -1"),
    ],
)
def test_values_out_of_range_are_one_line(nearest, given, words):
    with pytest.raises(UserError, match=words):
        upscale(noise(8, 8), nearest, **given)


def test_results_that_no_memory_holds_are_refused_before_they_are_made(nearest):
    with pytest.raises(UserError, match="would become 64000x64000"):
        upscale(Image.new("1", (1000, 1000)), nearest, factor=64)
    side = int(LARGEST_PIXELS**0.5)  # on the way, though not in the end
    with pytest.raises(UserError, match="megapixels"):
        upscale_to(Image.new("1", (side, 4)), nearest, (side, 4 * side))
