"""Captions of a subject's pictures are made of templates around its name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ldm.data.subject import TEMPLATES, SubjectFolder
from ldm.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for k in range(2):
        Image.fromarray(np.full((20, 24, 3), 90 * k, np.uint8)).save(tmp_path / f"{k}.png")
    return tmp_path


def test_every_template_comes_up_and_holds_the_name(folder):
    data = SubjectFolder(str(folder), 16, name="<cat>", templates="style", repeats=100)
    assert len(data) == 200
    assert {data[k]["txt"] for k in range(200)} == {t.format("<cat>") for t in TEMPLATES["style"]}
    assert data[0]["jpg"].shape == (16, 16, 3)
    assert data[0]["jpg"].mean() == data[2]["jpg"].mean() != data[1]["jpg"].mean()


def test_own_templates_are_used(folder):
    data = SubjectFolder(str(folder), 16, name="<cat>", templates=["{} at sea"])
    assert data[1]["txt"] == "<cat> at sea"


@pytest.mark.parametrize("templates", ["things", [], ["a cat"], ["{} and {}"], ["{0}"], ["{} {x}"]])
def test_templates_without_one_place_for_the_name_are_refused(folder, templates):
    with pytest.raises(UserError, match="templates"):
        SubjectFolder(str(folder), 16, name="<cat>", templates=templates)


def test_repeats_below_one_are_refused(folder):
    with pytest.raises(UserError, match="repeats 0"):
        SubjectFolder(str(folder), 16, name="<cat>", repeats=0)
