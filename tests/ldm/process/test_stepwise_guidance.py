"""Guidance away from each step's own conditioning: its rows, its times, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.process.guidance import ClassifierFreeGuidance
from ldm.process.stepwise_guidance import StepwiseGuidance, mapped, tensors_of


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1)


def prepare(guider: StepwiseGuidance, cond, time: int = 5):
    rows = tensors_of(cond)[0].shape[0]
    return guider.prepare(torch.zeros(rows, 3), torch.full((rows,), time), cond, None)


def test_each_time_has_its_own_and_the_order_is_uncond_first():
    guider = StepwiseGuidance(3.0, {5: column(1.0), 4: column(2.0)})
    assert prepare(guider, column(9.0), 5)[2].flatten().tolist() == [1, 9]
    x, t, joined = prepare(guider, column(9.0), 4)
    assert joined.flatten().tolist() == [2, 9]
    assert x.shape == (2, 3) and t.tolist() == [4, 4]
    assert guider.layout == ("uncond", "cond")


def test_it_combines_as_plain_guidance_does():
    out, t = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)), torch.zeros(4)
    guided = StepwiseGuidance(3.5, {0: column(1.0)}).combine(out, t)
    assert torch.equal(guided, ClassifierFreeGuidance(3.5).combine(out, t))


def test_every_prompts_block_of_pictures_has_the_pictures_own():
    guider = StepwiseGuidance(2.0, {5: column(1.0, 2.0)})
    cond = column(10.0, 20.0, 11.0, 21.0, 12.0, 22.0)
    assert prepare(guider, cond)[2].flatten().tolist()[:6] == [1, 2, 1, 2, 1, 2]
    # The same object again, with other rows.
    assert prepare(guider, cond[:4])[2].flatten().tolist() == [1, 2, 1, 2, 10, 20, 11, 21]


def test_dicts_of_lists_are_repeated_entry_by_entry():
    held = {"c_crossattn": [column(1.0, 2.0)], "c_concat": [column(3.0, 4.0)]}
    cond = mapped(lambda part: torch.cat([part + 10, part + 20]), held)
    joined = prepare(StepwiseGuidance(2.0, {5: held}), cond)[2]
    assert joined["c_crossattn"][0].flatten().tolist() == [1, 2, 1, 2, 11, 12, 21, 22]
    assert joined["c_concat"][0].flatten().tolist() == [3, 4, 3, 4, 13, 14, 23, 24]


def test_conditioning_that_steps_share_is_joined_once():
    held, cond = column(1.0), column(9.0, 8.0)
    guider = StepwiseGuidance(2.0, {5: held, 4: held})
    assert prepare(guider, cond, 5)[2] is prepare(guider, cond, 4)[2]


def test_a_time_without_an_entry_is_refused_with_those_that_there_are():
    guider = StepwiseGuidance(2.0, {5: column(1.0), 981: column(1.0)})
    with pytest.raises(UserError, match=r"^model time 6 given; expected one of 2 from 5 to 981"):
        prepare(guider, column(9.0), 6)
    with pytest.raises(UserError, match=r"^model time 5, 981 given"):
        guider.prepare(torch.zeros(2, 3), torch.tensor([981, 5]), column(9.0, 9.0), None)


def test_rows_that_are_no_multiple_of_the_pictures_are_refused():
    guider = StepwiseGuidance(2.0, {5: column(1.0, 2.0)})
    with pytest.raises(UserError, match=r"^a walk of 3 rows given; expected a multiple of the 2"):
        prepare(guider, column(7.0, 8.0, 9.0))


def test_tensors_are_listed_and_mapped_in_the_order_of_a_conditioning():
    cond = {"a": [torch.zeros(1), torch.ones(1)], "b": torch.full((1,), 2.0), "c": None}
    assert [int(part) for part in tensors_of(cond)] == [0, 1, 2]
    assert [int(part) for part in tensors_of(mapped(lambda part: part + 1, cond))] == [1, 2, 3]
    assert tensors_of(None) == [] and mapped(torch.neg, cond)["c"] is None
