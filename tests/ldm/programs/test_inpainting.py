"""The program that repaints a folder of pictures and masks."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.pipelines import init_image
from ldm.programs import inpainting
from ldm.programs.inpainting import InpaintProgram


@pytest.fixture
def pairs(tmp_path):
    """Two pictures of 16x16 with their masks."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    marked = np.zeros((16, 16), np.uint8)
    marked[4:12, 4:12] = 255
    for seed, name in enumerate(("a", "b")):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
        Image.fromarray(marked).save(folder / f"{name}_mask.png")
    return folder


@pytest.mark.parametrize(("held", "times"), [(inpainting.HELD, 1), (16 * 16, 1.5), (0, 2)])
def test_each_picture_of_a_folder_is_read_once_as_long_as_memory_is_spared(
    pairs, tiny_ckpt, tmp_path, monkeypatch, held, times
):
    read, load = [], init_image.open_image
    monkeypatch.setattr(init_image, "open_image", lambda path: read.append(path) or load(path))
    monkeypatch.setattr(inpainting, "HELD", held)
    flags = ["--prompt", "a cat", "--ckpt", tiny_ckpt, "--device", "cpu", "--ddim_steps", "2"]
    folders = ["--indir", pairs, "--outdir", tmp_path / str(held)]
    assert InpaintProgram("").main([str(item) for item in (*flags, *folders)]) == 0
    assert sorted(path.name for path in (tmp_path / str(held)).iterdir()) == ["a.png", "b.png"]
    assert len(read) == 2 * times
    for name in ("a.png", "b.png"):
        before, after = (np.asarray(Image.open(f / name)) for f in (pairs, tmp_path / str(held)))
        assert np.array_equal(before[:4], after[:4]) and not np.array_equal(before, after)
