from __future__ import annotations

import numpy as np
import pytest

from ldm.faces.placing import TEMPLATE, Face, scale_of, similarity


def moved(points, matrix):
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("turn", [0.0, 0.4, -2.5])
@pytest.mark.parametrize("scale", [0.2, 1.0, 7.0])
def test_a_turn_scale_and_shift_is_found_exactly(turn, scale):
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    true = np.array([[cos, -sin, 31.0], [sin, cos, -8.0]])
    points = np.random.default_rng(0).normal(size=(5, 2)) * 50
    found = similarity(points, moved(points, true))
    assert np.allclose(found, true) and np.isclose(scale_of(found), scale)


def test_no_other_similarity_comes_nearer_to_points_that_fit_none():
    rng = np.random.default_rng(1)
    given, wanted = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))

    def error(matrix):
        return ((moved(given, matrix) - wanted) ** 2).sum()

    best = similarity(given, wanted)
    for _ in range(50):
        a, b, x, y = rng.normal(size=4) * 0.05
        near = best + np.array([[a, -b, x], [b, a, y]])
        assert error(best) < error(near)


@pytest.mark.parametrize("count", [2, 5])
def test_a_face_is_placed_where_the_template_has_its_points(count):
    points = TEMPLATE[:count] * 0.3 + (70, 20)
    placement = Face((0.0, 0.0, 9.0, 9.0), points, 1.0).placement()
    assert np.allclose(moved(points, placement), TEMPLATE[:count])
