"""Perturbed-attention guidance: the identity in the chosen rows, and the paper's sum of three."""

from __future__ import annotations

import pytest
import torch
from controlled import Notes, contexts, draw, narrow_hub

from ldm.errors import UserError
from ldm.modules.attention_control.chain import Chain
from ldm.modules.attention_control.perturbed import PerturbedAttention, PerturbedGuidance
from ldm.modules.attention_control.seam import control_attention
from ldm.offload.plan import POLICIES, PlanSettings, StagePlan
from ldm.process.guidance import join_conditioning
from ldm.settings.samplers import SAMPLERS


@pytest.fixture(scope="module")
def hub():
    return narrow_hub(attention_resolutions=[2, 1])


def perturbed_draw(hub, *args, scale=2.0, strength=3.0, paths=("middle_block",), **options):
    attention = PerturbedAttention(paths)
    guider = PerturbedGuidance(attention, scale, strength)
    with control_attention(hub, attention):
        return draw(hub, *args, scale=scale, guider=guider, **options)


@torch.no_grad()
def one_call(hub, guider, x, t):
    """Return what a guider makes of one call of the model (B, 4, h, w), with its controller."""
    parts = guider.prepare(x, t, *contexts(len(x)))
    said = {"pictures": len(x), "layout": guider.layout}
    controlled = control_attention(hub, guider.attention)
    with controlled as control, control.at(0, 1, float(t[0]), **said):
        return guider.combine(hub.apply_model(*parts), t)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_strength_0_is_plain_guidance_under_every_sampler(hub, sampler, scale):
    plain = draw(hub, sampler, scale=scale)
    given = perturbed_draw(hub, sampler, scale=scale, strength=0.0)
    assert torch.allclose(given, plain, rtol=1e-5, atol=1e-4)  # samples of up to 30
    strong = perturbed_draw(hub, sampler, scale=scale)
    assert strong.isfinite().all() and (strong - plain).abs().max() > 1e-2


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_one_call_at_strength_0_is_within_1e_6_of_plain_guidance(hub, scale):
    (cond, uncond), t = contexts(2), torch.full((2,), 500)
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        c, u = (hub.apply_model(x, t, each) for each in (cond, uncond))
    given = one_call(hub, PerturbedGuidance(PerturbedAttention(), scale, 0.0), x, t)
    plain = c if scale == 1.0 else u + scale * (c - u)
    assert plain.abs().max() < 1
    assert (given - plain).abs().max() < 1e-6 * (2 * scale - 1)  # as much as guidance multiplies


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_result_is_the_papers_sum_of_three_models(hub, scale):
    (cond, uncond), t = contexts(2), torch.full((2,), 500)
    x, unet = torch.randn(2, 4, 8, 8), hub.model.diffusion_model
    layer = unet.middle_block[1].transformer_blocks[0].attn1

    guider = PerturbedGuidance(PerturbedAttention(), scale, 1.5)
    with torch.no_grad():
        c, u = (hub.apply_model(x, t, each) for each in (cond, uncond))
        layer.processor = lambda q, k, v, **_: v  # what attention with the identity is
        try:
            p = hub.apply_model(x, t, cond)
        finally:
            del layer.processor
    given = one_call(hub, guider, x, t)
    assert (p - c).abs().max() > 1e-3
    expected = c + (scale - 1.0) * (c - u) + 1.5 * (c - p)
    assert torch.allclose(given, expected, atol=1e-5)


def test_only_perturbed_rows_of_chosen_layers_have_the_identity(hub):
    attention, notes = PerturbedAttention(("middle_block", "input_blocks.1")), Notes()
    with control_attention(hub, Chain(attention, notes)):
        draw(hub, steps=1, guider=PerturbedGuidance(attention, 2.0))
    met = set()
    for probs, site, _, rows in notes.calls:
        chosen = site.kind == "self" and site.path.startswith(("middle_block.", "input_blocks.1."))
        for number, row in enumerate(rows):
            is_identity = torch.equal(
                probs[number], torch.eye(*probs.shape[2:]).expand_as(probs[number])
            )
            assert is_identity == (chosen and row.part == "perturbed")
            met.add((row.part, is_identity))
    assert met == {("uncond", False), ("cond", False), ("perturbed", False), ("perturbed", True)}


def test_a_path_is_a_block_and_not_the_beginning_of_a_name(hub):
    with control_attention(hub, Notes()) as control:
        sites = control.sites
    attention = PerturbedAttention(("output_blocks.1",))
    chosen = {site.path for site in sites if attention.wants(site, None)}
    assert chosen == {
        path
        for site in sites
        if (path := site.path).startswith("output_blocks.1.") and "attn1" in path
    }
    assert not any(PerturbedAttention(("output_block",)).wants(site, None) for site in sites)


def test_other_layers_give_another_picture(hub):
    middle, down = (perturbed_draw(hub, paths=(p,)) for p in ("middle_block", "input_blocks"))
    assert (middle - down).abs().max() > 1e-2


@pytest.mark.parametrize("rows", [None, 1, 2, 3])
@pytest.mark.parametrize("policy", POLICIES)
def test_row_parts_of_every_plan_make_no_difference(hub, policy, rows):
    whole = perturbed_draw(hub, steps=2)
    plan = StagePlan(hub, PlanSettings(policy, rows), torch.device("cpu")).attach()
    try:
        given = perturbed_draw(hub, steps=2)
    finally:
        plan.detach()
    assert torch.allclose(given, whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_conditioning_is_laid_out_as_join_conditioning_does(scale):
    cond, uncond = (
        {"c_concat": [torch.ones(2, 1)], "c_crossattn": [torch.full((2, 3), 2.0)]},
        {
            "c_concat": [torch.zeros(2, 1)],
            "c_crossattn": [torch.full((2, 3), 5.0)],
        },
    )
    guider = PerturbedGuidance(PerturbedAttention(), scale)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([1, 2])
    for pick in (lambda c: c, lambda c: c["c_crossattn"], lambda c: c["c_crossattn"][0]):
        c, u = pick(cond), pick(uncond)
        given_x, given_t, given = guider.prepare(x, t, c, None if scale == 1.0 else u)
        parts = len(guider.layout)
        assert torch.equal(given_x, x.repeat(parts, 1, 1, 1))
        assert torch.equal(given_t, t.repeat(parts))
        expected = join_conditioning(c, c)
        if scale != 1.0:
            expected = join_conditioning(u, expected)
        assert str(given) == str(expected)
    assert guider.prepare(x, t, None, None)[2] is None if scale == 1.0 else True


def test_without_its_controller_it_says_so_in_place_of_doing_nothing(hub):
    guider = PerturbedGuidance(PerturbedAttention(), 2.0)
    with pytest.raises(UserError, match=r"draw inside control_attention\(") as error:
        draw(hub, guider=guider)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError), control_attention(hub, PerturbedAttention()):
        draw(hub, guider=guider)  # another one is in control


def test_blocks_without_self_attention_are_refused_in_one_line(hub):
    refused = pytest.raises(UserError, match=r"output_blocks.7.*expected some of.*middle_block")
    with refused as error, control_attention(hub, PerturbedAttention(("output_blocks.7",))):
        pass
    assert "\n" not in str(error.value)
