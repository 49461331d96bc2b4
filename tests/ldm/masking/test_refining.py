from __future__ import annotations

import numpy as np

from ldm.masking.refining import grown, largest_part, refine


def mask_of(*boxes, shape=(40, 60)):
    mask = np.zeros(shape, np.uint8)
    for top, left, bottom, right in boxes:
        mask[top:bottom, left:right] = 255
    return mask


MASK = mask_of((5, 5, 15, 20), (25, 40, 30, 45))


def test_nothing_asked_is_nothing_done():
    assert refine(MASK) is MASK


def test_only_the_largest_part_stays():
    assert np.array_equal(largest_part(MASK), mask_of((5, 5, 15, 20)))
    for mask in (mask_of(), mask_of((0, 0, 40, 60)), mask_of((1, 1, 3, 3))):
        assert np.array_equal(largest_part(mask), mask)


def test_growing_widens_every_side_and_shrinking_takes_that_away_again():
    wider = grown(MASK, 3)
    rows, columns = np.nonzero(wider[:20, :30])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 17, 2, 22)
    assert np.array_equal(grown(wider, -3)[:20], MASK[:20])
    assert not grown(MASK, -5).any()


def test_the_pictures_edge_does_not_eat_into_a_mask():
    touching = mask_of((0, 0, 40, 10))
    assert np.array_equal(grown(touching, -4), mask_of((0, 0, 40, 6)))


def test_a_feather_keeps_the_middle_and_softens_the_edge():
    soft = refine(mask_of((0, 0, 40, 30)), feather=2.0)
    assert soft[20, 5] == 255 and soft[20, 50] == 0
    assert (np.diff(soft[20, 20:40].astype(int)) <= 0).all() and 100 < soft[20, 29] < 200


def test_the_order_is_largest_invert_grow():
    made = refine(MASK, largest=True, invert=True, grow=2)
    assert np.array_equal(made, grown(255 - mask_of((5, 5, 15, 20)), 2))
