"""Clicks below a picture: kept for who clicked, about the studio's pictures alone, exported."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

gr = pytest.importorskip("gradio", reason="needs gradio: pip install -e '.[web]'")

from apps.studio.rating import Rating, person_of  # noqa: E402
from apps.studio.settings import StudioSettings  # noqa: E402
from apps.studio.state import Studio  # noqa: E402
from apps.studio.tabs.feedback import counted_html, exported_html  # noqa: E402
from ldm.feedback.store import LONGEST_NAME  # noqa: E402
from ldm.images.io import save_picture  # noqa: E402


@pytest.fixture
def visit():
    return SimpleNamespace(headers={"accept-language": "en"})


@pytest.fixture
def rating(queue, tmp_path):
    return Rating(Studio(queue, StudioSettings(outdir=str(tmp_path / "out"))))


@pytest.fixture
def picture(tmp_path):
    text = "a red cat\nSteps: 5, Sampler: DDIM, Seed: 1, Size: 8x8"
    return str(save_picture(np.zeros((8, 8, 3), np.uint8), tmp_path / "out/0.png", metadata=text))


def test_clicks_add_up_to_one_opinion(rating, visit, picture):
    rating._thumb(1)(visit, picture, "Ada")
    rating._stars(visit, picture, "Ada", "4")
    assert "👍 ★★★★ “so red”" in rating._note(visit, picture, "Ada", "so red")
    stars, note, said = rating._shown(picture, "Ada")
    assert (stars.value, note) == ("4", "so red") and "★★★★" in said
    assert rating._shown(picture, "Bo")[1:] == ("", "")


def test_a_name_is_a_text_without_blanks_around_it():
    assert [person_of(each) for each in (" Ada ", None, 3, "x" * 500)] == [
        *("Ada", "", "3"),
        "x" * LONGEST_NAME,
    ]


@pytest.mark.parametrize("chosen", ["", None, 3, "/etc/passwd", "../0.png"])
def test_nothing_else_is_judged(rating, visit, chosen, picture):
    assert 'class="warning"' in rating._thumb(1)(visit, chosen, "Ada")
    assert rating.opinions.judged().opinions == 0


@pytest.mark.parametrize("stars", ["9", None, "x", "0"])
def test_stars_that_are_none_are_taken_back(rating, visit, picture, stars):
    rating._stars(visit, picture, "", "5")
    rating._stars(visit, picture, "", stars)
    assert rating.opinions.of(picture).stars is None


def test_good_ones_are_counted_and_copied(rating, visit, picture, tmp_path):
    rating._thumb(1)(visit, picture, "Ada")
    assert "Opinions: 1, about 1 picture; good: 1." in counted_html(rating.opinions, "en")
    said = exported_html(rating.opinions, 4, "out", "en")
    assert "params.root=out/training/liked-0000" in said and str(tmp_path) not in said
    assert len(list((tmp_path / "out/training/liked-0000").glob("*.png"))) == 1


def test_an_export_of_nothing_is_one_line(rating):
    assert 'role="alert"' in exported_html(rating.opinions, "many", "out", "en")
