"""Guidance by prompts that change, and by several at once, on a model that is a formula."""

from __future__ import annotations

import pytest
import torch

from ldm.errors import UserError
from ldm.models.diffusion.sampler_registry import make_sampler
from ldm.modules.attention_control.moments import LISTENERS, Moment
from ldm.process.schedules import make_beta_schedule
from ldm.prompts.encoding import EncodedPart, repeated
from ldm.prompts.guidance import PromptGuidance, needs_uncond


class Echo:
    """Predicts the mean of each row's text, and keeps what it was given."""

    num_timesteps, parameterization, device = 1000, "eps", torch.device("cpu")

    def __init__(self) -> None:
        betas = torch.as_tensor(make_beta_schedule("linear", 1000), dtype=torch.float64)
        self.alphas_cumprod = (1 - betas).cumprod(0).float()
        self.input_blocks = ()  # what tells a UNet
        self.seen: list[list[float]] = []

    def apply_model(self, x, t, cond):
        text = cond["c_crossattn"][0] if isinstance(cond, dict) else cond
        means = text.mean((1, 2))
        self.seen.append([round(float(each), 4) for each in means])
        return means[:, None, None, None].expand_as(x)


class Equal:
    """All of an encoder that guidance asks for."""

    equal = staticmethod(repeated)


def part(*values: float, ends=(9,), weight=1.0, length=2) -> EncodedPart:
    return EncodedPart(weight, ends, tuple(torch.full((length, 3), each) for each in values))


def walk(guider, model, sampler="euler", steps=4, cond=None, uncond=None):
    made = make_sampler(sampler, model)
    made.make_schedule(steps, verbose=False)
    x = torch.zeros(len(guider.conditionings()["cond"]), 4, 2, 2)
    with guider.following():
        return list(made.walk(x, cond, unconditional_conditioning=uncond, guider=guider))


def test_a_text_up_to_step_k_is_for_steps_0_to_k_as_in_the_web_ui():
    model = Echo()
    row = [part(1.0, 2.0, ends=(1, 4))]
    states = walk(PromptGuidance(model, 3.0, [row], [[part(0.5)]], Equal), model)
    assert model.seen == [[0.5, 1.0], [0.5, 1.0], [0.5, 2.0], [0.5, 2.0]]
    expected = [0.5 + 3.0 * (value - 0.5) for value in (1.0, 1.0, 2.0, 2.0)]
    assert [float(s.eps[0, 0, 0, 0]) for s in states] == pytest.approx(expected, abs=1e-3)
    assert not LISTENERS


@pytest.mark.parametrize("sampler", ["ddim", "plms", "euler", "heun", "dpm2", "lms", "dpm_solver"])
def test_every_sampler_draws_each_step_with_its_own_text(sampler):
    model = Echo()
    row = [part(1.0, 2.0, 1.0, 2.0, ends=(1, 2, 3, 4))]
    states = walk(PromptGuidance(model, 1.0, [row], None, Equal), model, sampler)
    texts = [seen[0] for seen in model.seen]
    assert texts[0] == 1.0 and texts[-1] == 1.0 and 2.0 in texts
    if len(texts) == 2 * len(states):
        assert texts[::2] == texts[1::2]  # both calls of a step


def test_parts_are_summed_with_their_weights_row_by_row():
    model = Echo()
    both = [part(1.0, weight=0.5), part(3.0, weight=-0.25)]
    guider = PromptGuidance(model, 2.0, [both, [part(5.0)]], [[part(0.0)]] * 2, Equal)
    assert guider.layout == ("uncond", "cond", "cond") and not guider.is_plain
    states = walk(guider, model, steps=1)
    assert model.seen[0] == [0.0, 0.0, 1.0, 5.0, 3.0, 5.0]
    # 2 (0.5 * 1 - 0.25 * 3) and 2 * 5: the second has no second part
    assert states[0].eps[:, 0, 0, 0].tolist() == pytest.approx([-0.5, 10.0])


def test_one_part_of_weight_one_is_plain_guidance_to_the_bit():
    from ldm.process.guidance import ClassifierFreeGuidance

    torch.manual_seed(0)
    out = torch.randn(6, 4, 2, 2)
    guider = PromptGuidance(Echo(), 7.5, [[part(1.0)]] * 3, [[part(0.0)]] * 3, Equal)
    times = torch.zeros(3)
    assert torch.equal(guider.combine(out, times), ClassifierFreeGuidance(7.5).combine(out, times))


def test_texts_of_different_lengths_are_repeated_to_one():
    rows = [[part(1.0, length=2)], [part(2.0, length=3)]]
    guider = PromptGuidance(Echo(), 2.0, rows, [[part(0.0, length=1)]] * 2, Equal)
    assert {tuple(each.shape) for each in guider.conditionings().values()} == {(2, 6, 3)}
    assert guider.is_plain


def test_what_else_a_model_is_given_is_joined_beside_the_text():
    model = Echo()
    row = [part(1.0, weight=0.5), part(2.0)]
    guider = PromptGuidance(model, 2.0, [row], [[part(0.0)]], Equal)
    maps = torch.ones(1, 5, 2, 2)
    pair = {
        name: {"c_concat": [number * maps], "c_crossattn": [text]}
        for number, (name, text) in enumerate(guider.conditionings().items())
    }
    guider.follower.tell(Moment(0, 1, 5.0), 1)
    x, t, cond = guider.prepare(
        torch.zeros(1, 4, 2, 2), torch.zeros(1), pair["cond"], pair["unconditional_conditioning"]
    )
    assert len(x) == len(t) == 3
    assert cond["c_concat"][0][:, 0, 0, 0].tolist() == [0.0, 1.0, 1.0]
    assert cond["c_crossattn"][0].mean((1, 2)).tolist() == [0.0, 1.0, 2.0]


def test_outside_of_a_walk_it_says_so():
    guider = PromptGuidance(Echo(), 1.0, [[part(1.0, 2.0, ends=(1, 2))]], None, Equal)
    with pytest.raises(UserError, match="outside of a sampler's walk"):
        guider.prepare(torch.zeros(1, 4, 2, 2), torch.zeros(1), None, None)


def test_an_unconditional_prediction_is_asked_for_by_scales_and_weights():
    assert needs_uncond(7.5, [[part(1.0)]])
    assert not needs_uncond(1.0, [[part(1.0)]])
    assert needs_uncond(1.0, [[part(1.0)], [part(1.0), part(2.0)]])
    assert needs_uncond(1.0, [[part(1.0, weight=0.9)]])


def test_joined_guiders_give_each_picture_the_bits_of_its_own():
    rows = [
        [part(1.0, 2.0, ends=(1, 4)), part(0.3, weight=0.7)],
        [part(5.0), part(0.1, 0.2, 0.4, ends=(0, 1, 9), weight=-0.4)],
    ]
    scales, uncond = (3.3, 7.7), [part(0.5)]
    alone = [
        PromptGuidance(Echo(), scale, [row], [uncond], Equal)
        for scale, row in zip(scales, rows, strict=True)
    ]
    assert alone[0].form == alone[1].form
    model = Echo()
    own = [
        PromptGuidance(model, scale, [row], [uncond], Equal)
        for scale, row in zip(scales, rows, strict=True)
    ]
    states = walk(PromptGuidance.joined(own), model)
    for number, guider in enumerate(alone):
        for state, single in zip(states, walk(guider, guider.follower.unet), strict=True):
            assert torch.equal(state.x[number], single.x[0])


def test_pictures_of_other_parts_or_lengths_have_another_form():
    def form(*row):
        return PromptGuidance(
            Echo(), 2.0, [list(row)], [[part(0.5, length=row_length)]], Equal
        ).form

    row_length = 2
    plain = form(part(1.0))
    assert form(part(2.0, 3.0, ends=(1, 4))) == plain != form(part(1.0), part(2.0))
    row_length = 4
    assert form(part(1.0, length=4)) != plain
