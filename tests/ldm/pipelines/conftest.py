from __future__ import annotations

import pytest
from tiny_model import write_tiny_model

from ldm.pipelines.generate import Pipeline
from ldm.pipelines.models import choose_model
from ldm.pipelines.settings import Txt2ImgSettings


@pytest.fixture(scope="session")
def tiny_ckpt(tmp_path_factory):
    """Path of a tiny checkpoint with its configuration beside it."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def pipeline(tiny_ckpt):
    """The tiny model, loaded on the CPU. Not to be modified."""
    choice = choose_model(Txt2ImgSettings(ckpt=str(tiny_ckpt)))
    return Pipeline.load(choice, device="cpu")
