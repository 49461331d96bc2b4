from __future__ import annotations

import numpy as np
import pytest
from face_files import EYES, astronaut

from ldm.faces.aligned import OUTSIDE, cut_out, put_back, soft_square
from ldm.faces.placing import SIDE, TEMPLATE, similarity


@pytest.fixture(scope="module")
def photo():
    pytest.importorskip("skimage")
    return np.asarray(astronaut())


@pytest.fixture(scope="module")
def placement():
    return similarity(EYES, TEMPLATE[:2])


def test_the_eyes_of_a_face_that_is_cut_out_are_where_networks_expect_them(photo, placement):
    face = cut_out(photo, placement).astype(float).mean(-1)
    for x, y in TEMPLATE[:2].astype(int):
        pupil = face[y - 8 : y + 9, x - 8 : x + 9].mean()
        assert pupil < face[y + 60 : y + 80, x - 8 : x + 9].mean() - 40  # the cheek below it


def test_a_face_that_is_put_back_unchanged_changes_little_and_nothing_beyond_it(photo, placement):
    given = photo.copy()
    back = put_back(photo, cut_out(photo, placement), placement)
    assert np.array_equal(photo, given)
    changed = np.abs(back.astype(int) - photo).max(-1)
    rows, columns = np.nonzero(changed)
    assert changed.mean() < 1.0 and changed[60:170, 170:280].mean() < 6.0
    assert 90 < rows.max() < 215 and columns.min() > 120 and columns.max() < 330


def test_the_edge_is_soft_and_the_middle_wholly_new(photo, placement):
    weight = soft_square()
    assert weight[0, 256] < 0.01 and weight[SIDE // 2, SIDE // 2] == 1.0
    assert np.abs(np.diff(weight, axis=0)).max() < 0.05
    green = np.zeros((SIDE, SIDE, 3), np.uint8) + np.array([0, 255, 0], np.uint8)
    made = put_back(photo, green, placement)
    assert np.array_equal(made[110, 225], (0, 255, 0))
    assert (made == photo).all(-1).mean() > 0.8


def test_what_lies_beyond_the_picture_is_grey_and_is_never_written(photo):
    corner = similarity(np.array([[-20.0, 5.0], [20.0, 5.0]]), TEMPLATE[:2])
    face = cut_out(photo, corner)
    assert np.array_equal(face[0, 0], OUTSIDE)
    assert put_back(photo, face, corner).shape == photo.shape
    away = similarity(np.array([[-900.0, 5.0], [-860.0, 5.0]]), TEMPLATE[:2])
    assert put_back(photo, cut_out(photo, away), away) is photo


def test_a_face_larger_than_the_network_sees_is_reduced_without_moire():
    stripes = (np.arange(2048) % 5 < 2) * 255  # every fourth pixel of them is a slow wave
    large = np.broadcast_to(stripes[:, None], (2048, 2048, 3)).astype(np.uint8)
    eyes = TEMPLATE[:2] * 4.0
    face = cut_out(large, similarity(eyes, TEMPLATE[:2]))
    assert face[50:-50, 50:-50].std() < 12.0
