"""Guidance's parts one after the other: the same numbers, and known rows."""

from __future__ import annotations

import contextlib

import pytest
import torch
from narrow_models import narrow_config, narrow_model
from peak_bytes import PeakBytes
from shortened_walks import walk

from ldm.modules.attention_control.moments import LISTENERS, Follower, Moment
from ldm.shortcuts.turns import in_turn


@pytest.fixture(scope="module")
def model():
    return narrow_model(narrow_config("v1"), seed=1)


@pytest.mark.parametrize("sampler", ["ddim", "heun"])
def test_the_numbers_are_those_of_one_batch(model, sampler):
    plain = walk(model, sampler)
    with in_turn(model):
        assert torch.allclose(walk(model, sampler), plain, atol=1e-5)
    assert "apply_model" not in vars(model) and not len(LISTENERS)


def test_a_call_holds_the_rows_of_one_part_and_listeners_know_which(model):
    follower, seen = Follower(model), []
    follower.follow()

    def look(_module, inputs):
        seen.append([(row.part, row.picture) for row in follower.rows(len(inputs[0]))])

    hook = model.model.diffusion_model.register_forward_pre_hook(look)
    with in_turn(model):
        walk(model)
    hook.remove()
    follower.leave()
    parts = [[(part, 0), (part, 1)] for part in ("uncond", "cond")]
    assert seen == parts * 5


def tell_of_two_parts():
    """Say that a guided walk of two pictures calls the model next."""
    for listener in LISTENERS:
        listener.tell(Moment(0, 2, 300.0), 2, ("uncond", "cond"))


def test_conditioning_of_several_kinds_is_cut_with_the_rows(model):
    whole = {"c_crossattn": [torch.randn(4, 77, 32)]}
    x, t = torch.randn(4, 4, 8, 8), torch.full((4,), 300)
    with torch.no_grad():
        plain = model.apply_model(x, t, whole)
        with in_turn(model):
            tell_of_two_parts()
            assert torch.allclose(model.apply_model(x, t, whole), plain, atol=1e-5)


def test_a_call_takes_about_half_of_the_memory(model):
    given = torch.randn(4, 4, 32, 32), torch.full((4,), 300), torch.randn(4, 77, 32)
    peaks = []
    for context in (contextlib.nullcontext(), in_turn(model)):
        with torch.no_grad(), context:
            tell_of_two_parts()
            with PeakBytes() as counted:
                model.apply_model(*given)
        peaks.append(counted.peak["cpu"])
    assert peaks[1] < 0.65 * peaks[0]
