"""A network that enlarges ends within an operation of being cancelled, for its own run alone."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from drawing import draw, text_settings
from PIL import Image
from torch import nn
from upscaler_files import write_nearest

from ldm.pipelines.cancelling import Cancel, Cancelled
from ldm.pipelines.enlarging import enlarge_to
from ldm.settings.upscale_tile import TileUpscaleSettings
from ldm.upscalers.enlarge import upscale_to
from ldm.upscalers.upscaler import kept_upscaler, load_upscaler

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))


@pytest.fixture
def file(tmp_path):
    return write_nearest(tmp_path / "nearest.pth")


def convolutions(upscaler):
    return [m for m in upscaler.network.model.modules() if isinstance(m, nn.Conv2d)]


def cancelled_in(upscaler, cancel):
    """Let a token be set in a network's first convolution; return which have been computed."""
    computed = []

    def after(module, *_):
        computed.append(module)
        cancel.cancel("enough")

    for each in convolutions(upscaler):
        each.register_forward_hook(after)
    return computed


def test_the_picture_is_the_same_and_nothing_is_left_behind(file):
    upscaler = load_upscaler(file)
    plain = upscale_to(PICTURE, upscaler, (60, 40))
    told = []
    made = enlarge_to(PICTURE, upscaler, (60, 40), Cancel(), told.append)
    assert np.array_equal(np.asarray(made), np.asarray(plain))
    assert told[-1].done == told[-1].total
    assert not any(each._forward_pre_hooks for each in upscaler.network.model.modules())


def test_it_ends_within_a_tile(file):
    upscaler, cancel = load_upscaler(file), Cancel()
    assert len(convolutions(upscaler)) > 1
    computed = cancelled_in(upscaler, cancel)
    with pytest.raises(Cancelled, match="enough"):
        enlarge_to(PICTURE, upscaler, (60, 40), cancel)
    assert len(computed) == 1


def test_it_ends_between_tiles_where_operations_are_not_looked_at(file, monkeypatch):
    monkeypatch.setattr("ldm.pipelines.enlarging.interruptible", lambda *_: threading.Lock())
    cancel, told = Cancel(), []
    large = PICTURE.resize((900, 600))
    with pytest.raises(Cancelled):
        enlarge_to(
            large, load_upscaler(file), (1800, 1200), cancel, lambda t: stop(t, told, cancel)
        )
    assert len(told) == 1 < told[0].total - 1


def stop(tiles, told, cancel):
    told.append(tiles)
    cancel.cancel()


def test_who_uses_the_same_network_in_another_thread_is_not_ended(file):
    upscaler, cancel, made = load_upscaler(file), Cancel(), []

    def observe(_):
        cancel.cancel()
        other = threading.Thread(target=lambda: made.append(upscaler(torch.rand(1, 3, 8, 8))))
        other.start()
        other.join()

    with pytest.raises(Cancelled):
        enlarge_to(PICTURE.resize((900, 600)), upscaler, (1800, 1200), cancel, observe)
    assert made[0].shape == (1, 3, 16, 16)


def test_a_run_of_two_walks_ends_between_them(pipeline, file):
    upscaler, cancel = kept_upscaler(file), Cancel()
    computed = cancelled_in(upscaler, cancel)
    wanted = text_settings(hires=2.0, hires_upscaler=str(file))
    with pytest.raises(Cancelled, match="enough"):
        draw(pipeline, wanted, cancel=cancel)
    assert len(computed) == 1


def test_a_run_in_tiles_ends_while_its_picture_is_enlarged(pipeline, file):
    upscaler, cancel = kept_upscaler(file), Cancel()
    computed = cancelled_in(upscaler, cancel)
    wanted = TileUpscaleSettings(prompt="a", upscaler=str(file), ddim_steps=2)
    with pytest.raises(Cancelled, match="enough"):
        draw(pipeline, wanted, image=PICTURE, cancel=cancel)
    assert len(computed) == 1
