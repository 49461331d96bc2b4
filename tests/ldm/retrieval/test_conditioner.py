"""The tokens are the text's row, then its neighbours'; for an empty text they are zeros."""

from __future__ import annotations

import numpy as np
import torch
from tiny_rdm import COLOURS, WIDTH, StubTexts, direction

from ldm.data.retrieval import RetrievalDatabase
from ldm.retrieval.conditioner import RetrievalConditioner
from ldm.retrieval.searcher import train_searcher


def searcher(tmp_path):
    rows = np.stack([direction(colour) for colour in COLOURS.values()])
    return train_searcher(RetrievalDatabase(rows, np.array(list(COLOURS)), tmp_path))


def test_text_alone_is_one_token():
    tokens = RetrievalConditioner(StubTexts()).encode(["red", "a cat"])
    assert tokens.shape == (2, 1, WIDTH)
    assert torch.equal(tokens[:, 0], StubTexts()(["red", "a cat"]))


def test_neighbours_follow_nearest_first(tmp_path):
    conditioner = RetrievalConditioner(StubTexts(), n_repeat=2, searcher=searcher(tmp_path), knn=3)
    tokens = conditioner(["green", "blue"])
    assert tokens.shape == (2, 2 + 3, WIDTH)
    torch.testing.assert_close(tokens.norm(dim=2), torch.ones(2, 5))
    for row, name in zip(tokens, ("green", "blue"), strict=True):
        own = torch.from_numpy(direction(COLOURS[name]))
        assert all(torch.allclose(token, own) for token in row[:3])  # twice itself, then its like
        likeness = row[2:] @ own
        assert (likeness.diff() <= 0).all()


def test_an_empty_text_is_zeros_of_the_same_shape(tmp_path):
    conditioner = RetrievalConditioner(StubTexts(), searcher=searcher(tmp_path), knn=2)
    said, empty = conditioner.encode(["red", ""])
    assert said.shape == empty.shape and not empty.any() and said.any()
