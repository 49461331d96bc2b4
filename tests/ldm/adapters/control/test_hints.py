"""Hints: pictures and tensors, their sizes, and what is painted."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from ldm.adapters.control.hints import Hint, fitted, hint_tensor, inpaint_values
from ldm.errors import UserError


def picture(width=6, height=4, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_a_picture_becomes_numbers_from_0_to_1():
    image = picture()
    hint = hint_tensor(image)
    assert hint.shape == (1, 3, 4, 6)
    assert torch.equal(
        (hint[0].movedim(0, -1) * 255).round(), torch.tensor(np.array(image)).float()
    )


def test_what_is_to_be_painted_is_minus_one_and_the_rest_the_picture():
    image, mask = picture(), Image.new("L", (6, 4))
    mask.paste(255, (0, 0, 3, 4))
    values = inpaint_values(image, mask)
    assert torch.equal(values[..., :3], torch.full((1, 3, 4, 3), -1.0))
    assert torch.equal(values[..., 3:], hint_tensor(image)[..., 3:])
    with pytest.raises(UserError, match="expected the same size"):
        inpaint_values(image, Image.new("L", (5, 4)))


def test_grey_pictures_and_tensors_have_three_equal_channels():
    assert torch.equal(
        hint_tensor(picture().convert("L"))[0, 0], hint_tensor(picture().convert("L"))[0, 2]
    )
    assert hint_tensor(torch.rand(2, 1, 4, 4)).shape == (2, 3, 4, 4)


def test_several_pictures_are_a_batch():
    assert hint_tensor([picture(), picture(seed=1)]).shape == (2, 3, 4, 6)
    with pytest.raises(UserError, match="hints of 2 sizes"):
        hint_tensor([picture(), picture(width=8)])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (torch.rand(4, 4), "a hint of shape"),
        (torch.rand(1, 4, 4, 4), "a hint of shape"),
        (torch.zeros(0, 3, 4, 4), "a hint of shape"),
        (torch.full((1, 3, 4, 4), 255.0), "values from 255 to 255"),
        (torch.full((1, 3, 4, 4), float("nan")), "values from nan"),
        ("edges.png", "a str given for a hint"),
    ],
)
def test_what_is_no_hint_is_one_line(wrong, words):
    with pytest.raises(UserError, match=words):
        hint_tensor(wrong)


def test_a_hint_is_stretched_cropped_or_filled():
    hint = torch.zeros(1, 3, 4, 8)
    hint[..., 2:6] = 1.0  # a white square on black
    assert fitted(hint, (4, 8)) is hint
    stretched, cropped, filled = (fitted(hint, (8, 8), how) for how in ("stretch", "crop", "fill"))
    assert stretched.shape == cropped.shape == filled.shape == (1, 3, 8, 8)
    assert cropped.mean() > stretched.mean() > filled.mean()
    assert torch.equal(filled[..., 2:6, :], hint) and not filled[..., :2, :].any()


def test_a_hint_larger_than_wanted_is_made_smaller_without_gaps():
    hint = torch.zeros(1, 3, 64, 64)
    hint[..., 32] = 1.0  # a line one pixel wide
    assert (fitted(hint, (16, 16)).amax(-1) > 0.05).all()


def test_pixels_to_paint_do_not_mix_with_colours():
    hint = torch.ones(1, 3, 4, 4)
    hint[..., :2] = -1
    resized = fitted(hint, (6, 6))
    assert set(resized.unique().tolist()) == {-1.0, 1.0} and (resized[..., 0] == -1).all()


def test_another_size_is_said_once(caplog):
    caplog.set_level(logging.WARNING)
    hint = Hint(picture(6, 4), "stretch", rate=8, wanted=8)
    assert hint.at((2, 2)).shape == (1, 3, 16, 16) and hint.at((2, 2)) is not None
    assert caplog.text.count("the hint of 6x4 pixels is resized (stretch)") == 1


def test_the_pictures_own_size_needs_no_words(caplog):
    """A first stage that halves sides twice has pictures smaller than a ControlNet's hint."""
    hint = Hint(picture(8, 8), "stretch", rate=4, wanted=8)
    assert hint.at((2, 2)).shape == (1, 3, 16, 16) and not caplog.text
