"""A folder of pictures becomes a database, also in several goes and with damaged files among it."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_rdm import COLOURS, StubPictures, direction

from ldm.data.retrieval import RetrievalDatabase
from ldm.errors import UserError
from ldm.images.io import save_picture
from ldm.retrieval import embedding
from ldm.retrieval.embedding import embed_folder


@pytest.fixture
def images(tmp_path):
    for name, colour in COLOURS.items():
        save_picture(np.full((12, 9, 3), colour, np.uint8), tmp_path / f"images/{name}/1.png")
    return tmp_path / "images"


def embed(images, tmp_path, encoder, **options):
    return embed_folder(images, tmp_path / "db", encoder, batch_size=3, **options)


def test_every_picture_is_embedded_under_its_name(images, tmp_path):
    seen = []
    done = embed(images, tmp_path, StubPictures(), progress=seen.append)
    database = RetrievalDatabase.read(tmp_path / "db")
    assert (done.added, done.there, done.notice, sum(seen)) == (4, 0, None, 4)
    for name, row in zip(database.names, database.embeddings, strict=True):
        colour = COLOURS[name.split("/")[0]]
        np.testing.assert_allclose(row, direction(colour), rtol=1e-5)


def test_a_stopped_run_goes_on_where_it_was(images, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "PER_PART", 2)

    class Stopping(StubPictures):
        def __call__(self, pictures):
            if self.calls == 1:
                raise KeyboardInterrupt
            return super().__call__(pictures)

    with pytest.raises(KeyboardInterrupt):
        embed_folder(images, tmp_path / "db", Stopping(), batch_size=1)
    assert len(RetrievalDatabase.read(tmp_path / "db")) == 1
    counted = StubPictures()
    done = embed(images, tmp_path, counted)
    assert (done.added, done.there) == (3, 1)
    assert sorted(RetrievalDatabase.read(tmp_path / "db").names) == sorted(
        f"{name}/1.png" for name in COLOURS
    )
    assert embed(images, tmp_path, counted).added == 0 and counted.calls == 1


def test_damaged_pictures_are_counted_and_left_out(images, tmp_path):
    (images / "bad.png").write_bytes(b"no picture")
    done = embed(images, tmp_path, StubPictures())
    assert done.added == 4 and "1 picture was left out" in done.notice
    assert "bad.png" not in RetrievalDatabase.read(tmp_path / "db").names


def test_what_cannot_be_embedded_is_told(images, tmp_path):
    with pytest.raises(UserError, match="--images .*nowhere does not exist"):
        embed(tmp_path / "nowhere", tmp_path, StubPictures())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/1.png").write_bytes(b"")
    with pytest.raises(UserError, match="none of 1 pictures can be read"):
        embed(tmp_path / "bad", tmp_path, StubPictures())
    assert not (tmp_path / "db").exists()
    embed(images, tmp_path, StubPictures())
    with pytest.raises(UserError, match="expected the same; give another --database"):
        embed(images, tmp_path, StubPictures(weights="other"))
