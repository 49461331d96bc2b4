"""The neighbours found are the nearest there are."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from ldm.data.retrieval import RetrievalDatabase, unit_length
from ldm.errors import UserError
from ldm.retrieval import searcher as module
from ldm.retrieval.searcher import (
    kind_for,
    load_searcher,
    recall,
    save_searcher,
    train_searcher,
)

LIBRARIES = ["faiss", "sklearn"]


def directions(count, width=16, seed=0, clusters=12):
    """Return unit rows around some centres, as pictures' embeddings lie."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(clusters, width))
    rows = centres[rng.integers(clusters, size=count)] + 0.5 * rng.normal(size=(count, width))
    return unit_length(rows, "rows")


def database(count, tmp_path, **options):
    return RetrievalDatabase(directions(count, **options), np.empty(0), tmp_path / "db")


@pytest.fixture(params=LIBRARIES)
def library(request, monkeypatch):
    pytest.importorskip(request.param)
    if request.param == "sklearn":
        monkeypatch.setattr(module, "has_faiss", lambda: False)
    return request.param


def test_exact_search_is_brute_force(library, tmp_path):
    there, asked = database(300, tmp_path), directions(7, seed=3)
    rows, likeness = train_searcher(there, "exact").search(asked, 9)
    products = asked @ there.embeddings.T
    expected = np.argsort(-products, axis=1)[:, :9]
    assert np.array_equal(rows, expected)
    np.testing.assert_allclose(likeness, np.take_along_axis(products, expected, 1), rtol=1e-5)
    assert train_searcher(there).library.startswith({"sklearn": "scikit"}.get(library, library))


@pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
def test_lists_find_most_neighbours_and_order_them_by_their_exact_likeness(kind, tmp_path):
    pytest.importorskip("faiss")
    there = database(3000, tmp_path)
    trained = train_searcher(there, kind)
    trained.index.faiss_index.nprobe = 12
    rows, likeness = trained.search(directions(5, seed=4), 10)
    asked = directions(5, seed=4)
    exact = np.einsum("bd,bnd->bn", asked, there.embeddings[rows])
    np.testing.assert_allclose(likeness, exact, rtol=1e-5)
    assert (np.diff(likeness, axis=1) <= 0).all()
    assert recall(trained, 10) > 0.9
    assert recall(train_searcher(there, "exact"), 10) == 1


def test_the_kind_follows_the_size(monkeypatch):
    monkeypatch.setattr(module, "has_faiss", lambda: True)
    assert [kind_for(n) for n in (10, 19_999, 20_000, 99_999, 100_000)] == [
        "exact",
        "exact",
        "ivf",
        "ivf",
        "ivfpq",
    ]
    monkeypatch.setattr(module, "has_faiss", lambda: False)
    assert kind_for(10**6) == "exact"


@pytest.mark.parametrize("kind", ["exact", "ivf"])
def test_a_saved_searcher_finds_the_same(kind, tmp_path):
    pytest.importorskip("faiss")
    there, asked = database(500, tmp_path), directions(3, seed=5)
    trained = train_searcher(there, kind)
    for _ in range(2):  # the second replaces the first
        save_searcher(trained, tmp_path / "saved")
    again = load_searcher(tmp_path / "saved", there)
    assert again.kind == kind
    assert np.array_equal(again.search(asked, 4)[0], trained.search(asked, 4)[0])


def test_a_searcher_of_another_database_is_refused(tmp_path):
    save_searcher(train_searcher(database(50, tmp_path)), tmp_path / "saved")
    with pytest.raises(UserError, match="trained for 50 embeddings of 16 numbers"):
        load_searcher(tmp_path / "saved", database(50, tmp_path, seed=1))


def test_a_damaged_searcher_is_refused(tmp_path):
    pytest.importorskip("faiss")
    there = database(200, tmp_path)
    save_searcher(train_searcher(there, "ivf"), tmp_path / "saved")
    (tmp_path / "saved/index.faiss").write_bytes(b"IwFl")
    with pytest.raises(UserError, match="its index cannot be read") as error:
        load_searcher(tmp_path / "saved", there)
    assert "\n" not in str(error.value)
    (tmp_path / "saved/searcher.json").write_text(json.dumps({"kind": "ivf"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"searcher.json cannot be read"):
        load_searcher(tmp_path / "saved", there)


def test_what_cannot_be_found_is_told(tmp_path, monkeypatch):
    there = database(5, tmp_path)
    trained = train_searcher(there)
    with pytest.raises(UserError, match="--knn 6 was given; .* has 5 embeddings"):
        trained.search(there.embeddings, 6)
    with pytest.raises(UserError, match="embeddings of 16 numbers, the queries have 8"):
        trained.search(directions(1, width=8), 2)
    monkeypatch.setattr(module, "has_faiss", lambda: False)
    with pytest.raises(UserError, match=r"kind ivf .*\[retrieval\]"):
        train_searcher(there, "ivf")


def test_of_neighbours_that_are_equally_near_any_is_found(tmp_path):
    """Which of them a search gives depends on the processor's order of summation."""
    rows = unit_length(np.float32([[1, 0], [0.6, 0.8], [0.6, -0.8], [-1, 0]]), "rows")
    there = RetrievalDatabase(rows, np.empty(0), tmp_path / "db")
    found = {(1, 0): [0, 2], (0.6, 0.8): [1, 0], (0.6, -0.8): [2, 0], (-1, 0): [3, 2]}

    def search(asked, k):
        near = min(found, key=lambda key: np.abs(asked[0] - key).sum())
        return np.array([found[near]]), None

    for other in (1, 2):
        found[1, 0] = [0, other]
        assert recall(SimpleNamespace(database=there, search=search), 2) == 1
    found[1, 0] = [0, 3]
    assert recall(SimpleNamespace(database=there, search=search), 2) < 1
