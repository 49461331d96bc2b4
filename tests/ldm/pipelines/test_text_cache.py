"""Encoded texts are kept within their room, for one model."""

from __future__ import annotations

import torch
from torch import nn

from ldm.pipelines.text_cache import TextCache
from ldm.prompts.encoding import EncodedPart

FOUR = torch.zeros(4, dtype=torch.uint8)


def test_what_is_known_is_not_made_again():
    cache, model, made = TextCache(), nn.Identity(), []
    for key in ("a", "b", "a"):
        assert cache.get(model, key, lambda key=key: made.append(key) or FOUR) is FOUR
    assert made == ["a", "b"]


def test_those_not_asked_for_longest_are_dropped_first():
    cache, model = TextCache(room=8), nn.Identity()
    for key in ("a", "b", "a", "c"):
        cache.get(model, key, FOUR.clone)
    assert cache.held == 8 and [*cache._known] == ["a", "c"]


def test_parts_of_prompts_are_counted_by_all_their_states():
    cache, model = TextCache(), nn.Identity()
    part = EncodedPart(1.0, (0, 1), (FOUR, FOUR))
    cache.get(model, "a", lambda: (part, part))
    assert cache.held == 16


def test_what_is_larger_than_the_room_is_made_and_not_kept():
    cache = TextCache(room=3)
    assert cache.get(nn.Identity(), "a", lambda: FOUR) is FOUR
    assert len(cache) == cache.held == 0


def test_another_model_and_clear_empty_it():
    cache, model, other = TextCache(), nn.Identity(), nn.Identity()
    cache.get(model, "a", lambda: FOUR)
    assert cache.get(other, "a", lambda: "") == "" and len(cache) == 1
    cache.clear()
    assert len(cache) == cache.held == 0
