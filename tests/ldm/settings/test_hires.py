"""What is chosen of two walks: only where there are two, and by names that others read."""

from __future__ import annotations

import pytest

from ldm.settings.generation import Txt2ImgSettings
from ldm.settings.hires import HIRES, LABELS, upscaler_label, upscaler_named
from ldm.settings.option import options_of
from ldm.settings.swap import SwapSettings


def test_pictures_that_are_drawn_once_record_nothing_of_a_second_walk():
    assert set(HIRES) <= set(Txt2ImgSettings().unrecorded)
    assert not set(HIRES) & set(Txt2ImgSettings(hires=1.5).unrecorded)


def test_the_final_size_is_the_nearest_that_the_model_draws():
    assert Txt2ImgSettings(hires=1.3).final_size((12, 16), 4) == (16, 20)
    assert Txt2ImgSettings().final_size((12, 16), 4) == (12, 16)


def test_a_network_is_named_only_where_one_enlarges():
    assert Txt2ImgSettings(hires_upscaler="net").hires_network is None
    assert Txt2ImgSettings(hires=2.0, hires_upscaler="net").hires_network == "net"
    assert Txt2ImgSettings(hires=2.0, hires_upscaler="lanczos").hires_network is None


def test_edits_are_drawn_once():
    assert not set(HIRES) & {each.name for each in options_of(SwapSettings)}
    assert SwapSettings(sprompt="a cat", prompt="a dog").final_size((8, 8), 4) == (8, 8)


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_read_back(name):
    assert upscaler_named(upscaler_label(name)) == name


def test_a_files_label_is_its_name():
    assert upscaler_label("models/upscalers/4x-Ultra.Sharp.pth") == "4x-Ultra.Sharp"
    assert upscaler_label(r"C:\nets\RealESRGAN_x4plus.pth") == "RealESRGAN_x4plus"
    assert upscaler_named("R-ESRGAN 4x+") == "RealESRGAN_x4plus"
