"""The measure of seams finds them where they are, and none where tiles are drawn together."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import tile_seams
from benchmarks.tile_seams import borders, seams
from ldm.hints.filters import blurred


def clouds(side=96, seed=0):
    random = np.random.default_rng(seed)
    smooth = blurred(random.standard_normal((side, side, 3), np.float32), 3.0)
    return (128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def test_a_step_between_two_halves_is_a_seam_and_clouds_have_none():
    whole = clouds()
    stepped = whole.copy()
    stepped[:, 48:] = np.minimum(whole[:, 48:].astype(int) + 30, 255)
    assert seams([whole, clouds(seed=1)], [48], 4).ratio == pytest.approx(1, abs=0.1)
    assert seams([stepped], [48], 4).ratio > 2
    assert seams([stepped], [32], 4).ratio == pytest.approx(1, abs=0.3)


def test_borders_are_where_tiles_begin_or_end_inside_of_the_picture():
    assert borders(128, 64, 64) == [64]
    assert borders(128, 64, 32) == [32, 64, 96]
    assert borders(100, 64, 48) == [36, 64]


def test_tiles_drawn_together_show_no_seam_and_pasted_ones_do(capsys, tmp_path):
    given = ["--pictures", "2", "--steps", "5", "--out", str(tmp_path)]
    found = tile_seams.measure(tile_seams.parse_args(given))
    assert found["together"].ratio <= 1.1 < 2 < found["pasted"].ratio
    assert len(list(tmp_path.iterdir())) == 6


def test_a_missing_model_is_one_line(capsys):
    assert tile_seams.main(["--ckpt", "nowhere.ckpt"]) == 2
    assert "nowhere.ckpt" in capsys.readouterr().err
