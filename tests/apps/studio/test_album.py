"""The studio's gallery: pages, recipes, the bin, and drawing again within the page's limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawing import text_settings

from apps.studio.album import ON_A_PAGE, Album, Redrawing, request_again
from ldm.errors import UserError
from ldm.images.io import load_image, save_picture
from ldm.programs.output import OutputFolder
from optimizedSD.web.limits import Limits

PIXELS = np.zeros((4, 4, 3), np.uint8)


@pytest.fixture
def outdir(tmp_path):
    for k in range(ON_A_PAGE + 2):
        text = f"a {'cat' if k % 2 else 'dog'}\nSteps: 5, Sampler: DDIM, Seed: {k}, Size: 4x4"
        save_picture(PIXELS, tmp_path / "out" / f"{k:02}.png", metadata=text)
    return tmp_path / "out"


@pytest.fixture
def drawn(pipeline, tmp_path):
    """A picture of the tiny model's, in its file."""
    (picture,) = pipeline.generate(text_settings(n_samples=1, n_iter=1, seed=3))
    output = OutputFolder(tmp_path / "out")
    output.take(picture)
    return output.saved[0]


def test_pages_hold_all_and_never_end_in_nothing(outdir):
    album = Album(outdir)
    first, last = album.page(""), album.page("", 1)
    assert (len(first.shown), len(last.shown), first.count, first.pages) == (ON_A_PAGE, 2, 26, 2)
    assert album.page("", 99).number == 1
    assert album.page("", -5).number == 0
    assert (album.page("bird", 3).count, album.page("bird", 3).pages) == (0, 1)


def test_a_search_that_is_no_search_is_one_line(outdir):
    assert Album(outdir).page("cat seed:25").count == 1
    with pytest.raises(UserError, match="a search of 501 characters"):
        Album(outdir).page("x" * 501)


def test_what_is_thrown_away_is_in_the_bin_until_it_is_put_back(outdir):
    album = Album(outdir)
    thrown = album.throw(outdir / "03.png")
    ((label, name),) = album.thrown()
    assert label.startswith("03.png") and name == thrown.name
    assert album.thrown_picture(name) == thrown.path
    assert album.page("").count == 25
    album.bin.restore(name)
    assert album.thrown() == [] and album.page("").count == 26


@pytest.mark.parametrize("name", ["0/1/../../../secret.png", "/etc/passwd", ""])
def test_nothing_but_what_is_in_the_bin_is_shown_of_it(outdir, name):
    with pytest.raises(UserError, match="is not in the bin"):
        Album(outdir).thrown_picture(name)


def test_the_recipe_stands_in_lines(outdir):
    lines = dict(Album(outdir).lines(outdir / "03.png"))
    assert (lines["file"], lines["prompt"], lines["Seed"]) == ("03.png", "a cat", "3")


def test_a_picture_is_drawn_again_to_the_bit(drawn, pipeline, queue, tmp_path):
    album = Album(tmp_path / "out")
    request = request_again(album, drawn, pipeline.choice, Limits(), {"device": "cpu"})
    states = list(queue.draw("me", lambda: Redrawing(request, tmp_path / "out")))
    (again,) = states[-1].pictures
    assert again.path != drawn
    assert np.array_equal(load_image(again.path), load_image(drawn))


def test_another_programs_picture_is_drawn_within_the_limits(outdir, drawn, pipeline, tmp_path):
    album, limits = Album(tmp_path / "out"), Limits()
    text = "a cat\nSteps: 5, Sampler: DDIM, Seed: 1, Size: 2048x64"
    save_picture(PIXELS, outdir / "wide.png", metadata=text)
    with pytest.raises(UserError, match="2048"):
        request_again(album, outdir / "wide.png", pipeline.choice, limits, {})
    with pytest.raises(UserError, match="at most 3"):
        request_again(album, drawn, pipeline.choice, replace(limits, steps=3), {})


def test_a_picture_outside_is_never_drawn_again(drawn, pipeline, tmp_path):
    other = Album(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="no picture of the gallery"):
        request_again(other, drawn, pipeline.choice, Limits(), {})
