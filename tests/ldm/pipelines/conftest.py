from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adapter_shelves import write_shelves
from PIL import Image

from ldm.pipelines import adapter_files
from ldm.pipelines.pipeline import Pipeline


@pytest.fixture(scope="session")
def pipeline(tiny_ckpt):
    """The tiny model, loaded on the CPU. Not to be modified."""
    return Pipeline.load(tiny_ckpt, device="cpu")


@pytest.fixture(scope="module")
def init_img(tmp_path_factory):
    """A picture of 16x12 pixels."""
    path = tmp_path_factory.mktemp("init") / "sketch.png"
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def adapter_shelves(pipeline, tmp_path_factory):
    """A folder of adapters for the tiny model, see ``write_shelves``."""
    return write_shelves(tmp_path_factory.mktemp("shelves"), pipeline.model)


@pytest.fixture
def at_shelves(adapter_shelves, monkeypatch):
    """The shelves are those of the working directory."""
    monkeypatch.chdir(adapter_shelves)
    monkeypatch.setattr(adapter_files, "ROOT", Path("elsewhere"))
