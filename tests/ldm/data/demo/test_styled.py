"""Scenes in another style: the outline is where the glyphs end, and nothing else changes."""

from __future__ import annotations

import numpy as np
from emoji_font import needs_font

from ldm.data.demo.scenes import SceneDataset, placed
from ldm.data.demo.styled import OUTLINE, OutlinedScenes, dilated

pytestmark = needs_font


def test_captions_and_places_are_those_of_the_plain_scenes():
    plain, styled = SceneDataset(seed=4), OutlinedScenes(seed=4)
    assert [plain.scene(k) for k in range(20)] == [styled.scene(k) for k in range(20)]


def test_the_outline_surrounds_the_glyph_and_leaves_its_inside_and_the_background():
    data = OutlinedScenes(seed=4, pair_share=0.0)
    scene = next(s for s in map(data.scene, range(99)) if s.background == "white")
    plain, styled = SceneDataset.draw(data, scene), data.draw(scene)
    rows, columns, (_, transparency) = placed(scene.objects[0], scene.boxes[0], 64)
    alpha = np.zeros((64, 64, 1), dtype=np.float32)
    alpha[rows, columns] = 1 - transparency
    inside, near = alpha[..., 0] > 0.999, dilated(alpha, 3)[..., 0]
    ring = (near > 0.999) & (alpha[..., 0] < 0.001)
    np.testing.assert_allclose(styled[inside], plain[inside], atol=0.01)
    np.testing.assert_array_equal(styled[near == 0], plain[near == 0])
    assert ring.sum() > 50
    np.testing.assert_allclose(styled[ring], OUTLINE[0] / 255 * 2 - 1, atol=0.01)


def test_a_point_grows_to_a_disc():
    point = np.zeros((9, 9, 1), dtype=np.float32)
    point[4, 4] = 1
    assert [int(dilated(point, radius).sum()) for radius in (0, 1, 2)] == [1, 5, 21]
