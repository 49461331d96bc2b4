"""Databases of embeddings are read whole, of unit length, or refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ldm.data.retrieval import DatabaseWriter, Embedder, RetrievalDatabase
from ldm.errors import UserError

CLIP = Embedder("ViT-L/14", "abc")


def rows(count, width=4, seed=0):
    return np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)


def test_parts_come_back_in_order_with_their_names_and_their_embedder(tmp_path):
    writer = DatabaseWriter(tmp_path / "db", CLIP)
    first, second = rows(3), rows(2, seed=1)
    writer.add(first, ["a.png", "b/ü.png", "c.png"])
    writer.add(second, ["d.png", "e.png"])
    database = RetrievalDatabase.read(tmp_path / "db")
    expected = np.concatenate([first, second])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(database.embeddings, expected, rtol=1e-6)
    assert database.names.tolist() == ["a.png", "b/ü.png", "c.png", "d.png", "e.png"]
    assert (len(database), database.width, database.embedder) == (5, 4, CLIP)


def test_a_writer_goes_on_after_the_parts_that_are_there(tmp_path):
    DatabaseWriter(tmp_path, CLIP).add(rows(2), ["a", "b"])
    again = DatabaseWriter(tmp_path, CLIP)
    assert again.names == {"a", "b"}
    again.add(rows(1), ["c"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "database.json",
        "part-00000.npz",
        "part-00001.npz",
    ]


def test_the_references_databases_read(tmp_path):
    path = tmp_path / "2000x4.npz"
    np.savez(path, embedding=rows(6) * 9, img_id=np.arange(6), patch_coords=np.zeros((6, 4)))
    for given in (path, tmp_path):
        database = RetrievalDatabase.read(given)
        assert database.names.tolist() == list("012345") and database.embedder is None
        np.testing.assert_allclose(np.linalg.norm(database.embeddings, axis=1), 1, rtol=1e-6)


def test_a_database_of_another_embedder_is_not_added_to(tmp_path):
    DatabaseWriter(tmp_path, CLIP).add(rows(1), ["a"])
    with pytest.raises(UserError, match=r"embedded by ViT-L/14 \(abc\), this is ViT-L/14 \(xyz\)"):
        DatabaseWriter(tmp_path, Embedder("ViT-L/14", "xyz"))
    (tmp_path / "database.json").unlink()
    with pytest.raises(UserError, match="something unknown"):
        DatabaseWriter(tmp_path, CLIP)


def save(folder, **arrays):
    np.savez(folder / "part.npz", **arrays)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "has no .npz files"),
        (lambda folder: (folder / "a.npz").write_bytes(b"PK\x03\x04junk"), "cannot be read"),
        (lambda folder: save(folder, vectors=rows(2)), "no such array"),
        (lambda folder: save(folder, embedding=np.zeros(4)), r"float64 \(4,\)"),
        (lambda folder: save(folder, embedding=np.zeros((2, 4))), "2 of 2 embeddings are zero"),
        (lambda folder: save(folder, embedding=np.full((1, 4), np.nan)), "not finite"),
        (lambda folder: save(folder, embedding=np.array([object()])), "cannot be read|object"),
        (lambda folder: (folder / "database.json").write_text("{"), "has no .npz"),
    ],
)
def test_what_is_no_database_is_told_in_one_line(make, message, tmp_path):
    make(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        RetrievalDatabase.read(tmp_path)
    assert "\n" not in str(error.value)


def test_widths_do_not_mix_and_records_must_read(tmp_path):
    np.savez(tmp_path / "a.npz", embedding=rows(2, 4))
    np.savez(tmp_path / "b.npz", embedding=rows(2, 5))
    with pytest.raises(UserError, match="4 and 5 numbers"):
        RetrievalDatabase.read(tmp_path)
    (tmp_path / "b.npz").unlink()
    (tmp_path / "database.json").write_text(json.dumps({"clip": 1}), encoding="utf-8")
    with pytest.raises(UserError, match=r"database.json cannot be read"):
        RetrievalDatabase.read(tmp_path)
    with pytest.raises(UserError, match="nowhere does not exist"):
        RetrievalDatabase.read(tmp_path / "nowhere")
