"""Clicks on the page are kept, shown and exported; only the gallery's pictures can be judged."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from apps.studio.opinions import TRAINING, Opinions, download_link, stars_in_words, training_command
from ldm.data.captions import CaptionedFolder
from ldm.errors import UserError
from ldm.gallery.index import Gallery
from ldm.images.io import save_picture


@pytest.fixture
def outdir(tmp_path):
    for k, prompt in enumerate(("a red cat", "a dog")):
        pixels = np.full((8, 8, 3), 50 * k, np.uint8)
        text = f"{prompt}\nSteps: 5, Sampler: DDIM, Seed: {k}, Size: 8x8"
        save_picture(pixels, tmp_path / "out" / f"{k}.png", metadata=text)
    return tmp_path / "out"


@pytest.fixture
def opinions(outdir):
    return Opinions(Gallery([outdir], aside=(TRAINING,)), outdir)


def test_each_person_has_an_opinion_of_their_own(opinions, outdir):
    opinions.give(outdir / "0.png", "Ada", thumb=1, stars=4)
    opinions.give(outdir / "0.png", " Ada ", note="so red")
    opinions.give(outdir / "0.png", "Bo", thumb=-1)
    ada = opinions.of(outdir / "0.png", "Ada")
    assert (ada.thumb, ada.stars, ada.note) == (1, 4, "so red")
    assert stars_in_words(ada) == "👍 ★★★★"
    assert opinions.of(outdir / "1.png", "Ada") is None
    assert vars(opinions.judged()) == {"opinions": 2, "pictures": 1, "good": 0}


def test_what_is_no_picture_of_the_gallery_is_not_judged(opinions, outdir, tmp_path):
    save_picture(np.zeros((8, 8, 3), np.uint8), tmp_path / "private.png")
    for path in (
        tmp_path / "private.png",
        outdir / ".." / "private.png",
        outdir / "feedback.sqlite",
    ):
        with pytest.raises(UserError, match="no picture of the gallery"):
            opinions.give(path, thumb=1)
        with pytest.raises(UserError, match="no picture of the gallery"):
            opinions.of(path)


def test_the_table_names_no_folder_of_the_server(opinions, outdir):
    opinions.give(outdir / "0.png", "Ada", stars=5, note="=1+1")
    (row,) = csv.DictReader(io.StringIO(opinions.table().decode("utf-8-sig")))
    assert (row["path"], row["person"], row["stars"], row["note"]) == ("0.png", "Ada", "5", "'=1+1")
    assert str(outdir).encode() not in opinions.table()


def test_good_pictures_become_a_folder_that_the_gallery_does_not_show(opinions, outdir):
    opinions.give(outdir / "0.png", "Ada", thumb=1)
    opinions.give(outdir / "1.png", "Ada", stars=2)
    first, second = opinions.export(), opinions.export()
    assert [done.folder.name for done in (first, second)] == ["liked-0000", "liked-0001"]
    assert [each["txt"] for each in CaptionedFolder(str(first.folder), 8)] == ["a red cat"]
    assert training_command(first.folder).endswith(f"params.root={first.folder}")
    shown, count = opinions.gallery.find()
    assert count == 2 and not any(TRAINING in str(each.path) for each in shown)


def test_nothing_good_is_one_line_and_no_folder(opinions, outdir):
    opinions.give(outdir / "0.png", thumb=-1)
    with pytest.raises(UserError, match="none of 0 good pictures"):
        opinions.export()
    assert not list(outdir.glob(f"{TRAINING}/*"))


def test_a_download_is_in_the_page_itself():
    link = download_link(b"a,b\n", "feedback.csv", "Save")
    assert 'href="data:text/csv;base64,YSxiCg=="' in link and 'download="feedback.csv"' in link
