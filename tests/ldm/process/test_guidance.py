"""Classifier-free guidance: its formula, and the batch that both predictions come from."""

from __future__ import annotations

import pytest
import torch

from ldm.process.guidance import (
    ClassifierFreeGuidance,
    NoGuidance,
    RowGuidance,
    join_conditioning,
    make_guider,
)


@pytest.mark.parametrize("w", [-1.0, -0.5, 0.0, 0.25, 6.5])
def test_guidance_is_the_papers_equation_with_one_plus_w_for_the_scale(w):
    uncond, cond = torch.randn(2, 2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    guided = ClassifierFreeGuidance(1.0 + w).combine(torch.cat([uncond, cond]), torch.zeros(4))
    # arXiv:2207.12598, Eq. 6.
    assert torch.allclose(guided, (1.0 + w) * cond - w * uncond, atol=1e-5)


def test_guidance_leaves_alone_what_both_predictions_agree_on():
    same = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    guided = ClassifierFreeGuidance(7.5).combine(torch.cat([same, same]), torch.zeros(4))
    assert torch.equal(guided, same)


def test_guidance_puts_uncond_first_and_extrapolates():
    guider = make_guider(3.0, torch.zeros(2, 1))
    x, t = torch.randn(2, 3), torch.tensor([5, 5])
    x_in, t_in, c_in = guider.prepare(x, t, torch.ones(2, 1), torch.zeros(2, 1))
    assert torch.equal(x_in, torch.cat([x, x])) and t_in.tolist() == [5] * 4
    assert c_in.flatten().tolist() == [0, 0, 1, 1]
    assert torch.equal(guider.combine(c_in, t_in), torch.full((2, 1), 3.0))


def test_guidance_notices_another_conditioning():
    guider, x, t = ClassifierFreeGuidance(2.0), torch.zeros(1, 1), torch.zeros(1)
    first = guider.prepare(x, t, torch.ones(1, 1), torch.zeros(1, 1))[2]
    second = guider.prepare(x, t, torch.full((1, 1), 4.0), torch.zeros(1, 1))[2]
    assert first.flatten().tolist() == [0, 1] and second.flatten().tolist() == [0, 4]


def test_scale_one_or_no_uncond_means_no_guidance():
    assert isinstance(make_guider(1.0, torch.zeros(1)), NoGuidance)
    assert isinstance(make_guider(7.5, None), NoGuidance)


def test_dicts_of_lists_are_joined_entry_by_entry():
    cond = {"c_concat": [torch.ones(1, 2)], "c_crossattn": [torch.ones(1, 3)]}
    uncond = {"c_concat": [torch.zeros(1, 2)], "c_crossattn": [torch.zeros(1, 3)]}
    joined = join_conditioning(uncond, cond)
    assert joined["c_concat"][0][:, 0].tolist() == [0, 1]
    assert joined["c_crossattn"][0].shape == (2, 3)


@pytest.mark.parametrize("uncond", [torch.zeros(1, 2), {"c_concat": []}, {"other": []}])
def test_conditionings_of_another_structure_are_refused(uncond):
    with pytest.raises(ValueError, match="same"):
        join_conditioning(uncond, {"c_concat": [torch.ones(1, 2)]})


def test_a_hint_that_the_empty_prompt_lacks_is_the_last_rows_alone():
    """ControlNet's guess mode."""
    cond = {"c_concat": [torch.ones(1, 2)], "c_crossattn": [torch.ones(1, 3)]}
    joined = join_conditioning({"c_concat": None, "c_crossattn": [torch.zeros(1, 3)]}, cond)
    assert joined["c_concat"] is cond["c_concat"] and joined["c_crossattn"][0].shape == (2, 3)


def test_a_scale_for_each_row_gives_each_the_bits_of_its_own_guidance():
    out = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    scales = [1.7, 7.5, -0.3]
    guided = RowGuidance(torch.tensor(scales).reshape(-1, 1, 1, 1)).combine(out, torch.zeros(3))
    for row, scale in enumerate(scales):
        own = ClassifierFreeGuidance(scale).combine(out[[row, 3 + row]], torch.zeros(1))
        assert torch.equal(guided[row], own[0])
