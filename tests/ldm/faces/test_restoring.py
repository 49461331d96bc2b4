from __future__ import annotations

import numpy as np
import torch
from face_files import restorer_of

from ldm.faces.placing import TEMPLATE, Face
from ldm.faces.restoring import restore_faces


def face_at(x, y, scale=0.1):
    points = TEMPLATE * scale + (x, y)
    return Face((x, y, 51.0, 51.0), points, 1.0)


PIXELS = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)
WHITE = restorer_of(lambda x: (torch.ones_like(x), None))


def test_a_picture_without_a_face_is_returned_itself():
    made, found = restore_faces(PIXELS, WHITE, lambda _: [])
    assert made is PIXELS and found == 0


def test_each_face_is_redrawn_and_told_of_and_the_rest_is_the_same_to_the_bit():
    told, given = [], PIXELS.copy()
    faces = [face_at(10, 30), face_at(130, 50)]
    made, found = restore_faces(PIXELS, WHITE, lambda _: faces, observer=told.append)
    assert found == 2 and [(each.done, each.total) for each in told] == [(0, 2), (1, 2), (2, 2)]
    assert np.array_equal(PIXELS, given)
    assert (made[45:65, 25:45] == 255).all() and (made[65:85, 145:165] == 255).all()
    kept = np.ones(PIXELS.shape[:2], bool)
    kept[29:83, 9:63] = kept[49:103, 129:183] = False
    assert np.array_equal(made[kept], PIXELS[kept])
