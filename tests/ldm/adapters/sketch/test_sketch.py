"""Guidance by a sketch: what the predictor computes, what moves, and who is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from narrow_models import narrow_model
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from tiny_model import CONFIG

from ldm.adapters.sketch import new_edge_predictor, read_edge_predictor, write_edge_predictor
from ldm.adapters.sketch.edges import edges_drawn, edges_of, latents_of
from ldm.adapters.sketch.features import FeatureTap, noise_level, papers_blocks, width_of
from ldm.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.modules.attention_control.controller import Controller
from ldm.modules.attention_control.moments import LISTENERS, Moment
from ldm.modules.attention_control.seam import control_attention

HIDDEN = (16, 8)


@pytest.fixture(scope="module")
def model():
    return narrow_model(CONFIG)


@pytest.fixture(scope="module")
def predictor(model):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        made = new_edge_predictor(model, hidden=HIDDEN).requires_grad_(False)
        for each in made.modules():
            if isinstance(each, torch.nn.BatchNorm2d):
                each.running_mean.normal_(std=0.1)
    return made.eval()


@pytest.fixture(scope="module")
def drawing():
    image = Image.new("L", (40, 40), 0)
    ImageDraw.Draw(image).ellipse((8, 8, 30, 30), outline=255, width=3)
    return image


def draw(model, pictures=1, steps=4, sampler=DDIMSampler):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(pictures, 4, 8, 8, generator=generator)
    cond = torch.randn(1, 77, 32, generator=generator).repeat(pictures, 1, 1)
    options = {"unconditional_conditioning": -cond, "unconditional_guidance_scale": 2.0}
    made = sampler(model)
    return made.sample(steps, pictures, (4, 8, 8), cond, x_T=x, verbose=False, **options)[0]


def test_the_perceptron_of_each_pixel_sees_all_features_and_the_noise_level(predictor):
    """Mixing before resizing is the same as the paper's order: resize, concatenate, mix."""
    generator = torch.Generator().manual_seed(0)
    sides = [8 if i % 2 else 4 for i in range(len(predictor.widths))]
    features = [
        torch.randn(2, width, side, side, generator=generator)
        for width, side in zip(predictor.widths, sides, strict=True)
    ]
    level = torch.tensor([0.25, 0.9])
    resized = [F.interpolate(each, size=(8, 8), mode="bilinear") for each in features]
    waves = [level, *(torch.sin(2 * torch.pi * level / 2**k) for k in range(9))]
    waves = [each.view(2, 1, 1, 1).expand(-1, -1, 8, 8) for each in waves]
    expected = predictor.layers(predictor.first(torch.cat([*resized, *waves], dim=1)))
    assert torch.allclose(predictor(features, level, (8, 8)), expected, atol=1e-5)


def test_the_papers_blocks_of_stable_diffusion_are_2_4_8_and_the_middle():
    from types import SimpleNamespace as Namespace

    unet = Namespace(input_blocks=[0] * 12, output_blocks=[0] * 12, middle_block=[0] * 3)
    assert papers_blocks(unet) == [
        *("input_blocks.2", "input_blocks.4", "input_blocks.8"),
        *("middle_block.0", "middle_block.1", "middle_block.2"),
        *("output_blocks.2", "output_blocks.4", "output_blocks.8"),
    ]


def test_the_width_of_every_block_is_what_it_returns(model):
    unet = model.model.diffusion_model
    names = [f"input_blocks.{i}" for i in range(len(unet.input_blocks))]
    names += [f"middle_block.{i}" for i in range(3)]
    names += [f"output_blocks.{i}" for i in range(len(unet.output_blocks))]
    with FeatureTap(model, names) as tap, torch.no_grad():
        model.apply_model(torch.ones(1, 4, 8, 8), torch.tensor([3]), torch.ones(1, 77, 32))
    assert [each.shape[1] for each in tap.features] == [width_of(unet, name) for name in names]
    assert not any(each._forward_hooks for each in unet.modules())


@pytest.mark.parametrize("name", ["input_blocks.99", "time_embed", "out.0", "nothing"])
def test_a_block_that_is_none_is_refused(name, model):
    with pytest.raises(UserError, match="is given as a block of the UNet"):
        new_edge_predictor(model, [name])


def test_a_step_ends_where_the_papers_equation_says(model, predictor, drawing):
    """x_{t-1} - beta ||x_t - x_{t-1}|| / ||g|| g, with g by differences in float64."""
    generator = torch.Generator().manual_seed(4)
    x, after = torch.randn(2, 2, 4, 8, 8, generator=generator)
    cond, moment = torch.randn(2, 77, 32, generator=generator), Moment(0, 4, 501.0)

    def predict(x):
        return model.apply_model(x, torch.full((len(x),), 501), cond)

    with predictor.attach(model, drawing, scale=1.3) as handle, torch.no_grad():
        assert torch.equal(handle.before_step(x, moment, predict), x)
        moved = handle.after_step(after, moment)
        goal = handle.goal(x)

        def loss(x):
            with FeatureTap(model, predictor.blocks) as tap:
                predict(x)
            level = noise_level(model, torch.tensor([501.0, 501.0]))
            found = predictor(tap.features, level, (8, 8))
            return (found - goal).square().flatten(1).sum(1)

        direction = (after - moved).flatten(1)
        went = (x - after).flatten(1).norm(dim=1)
        assert torch.allclose(direction.norm(dim=1), 1.3 * went, rtol=1e-4)
        # Along the slope the loss falls by its length; in a direction across it not at all.
        unit = (direction / direction.norm(dim=1, keepdim=True)).view_as(x)
        h = 1e-2
        steep = (loss(x + h * unit) - loss(x - h * unit)) / (2 * h)
        other = torch.randn(x.shape, generator=generator)
        other -= unit * (other * unit).flatten(1).sum(1).view(-1, 1, 1, 1)
        flat = (loss(x + h * other) - loss(x - h * other)) / (2 * h)
    assert (steep > 0).all() and (flat.abs() < 0.05 * steep * other.flatten(1).norm(dim=1)).all()
    assert torch.allclose(handle.losses[0], loss(x), rtol=1e-4)


def test_guidance_moves_the_walk_and_detaching_restores_it_bitwise(model, predictor, drawing):
    before, keys = draw(model), list(model.state_dict())
    with predictor.attach(model, drawing, end=0.5) as handle:
        guided = draw(model)
        assert len(handle.losses) == 2 and list(model.state_dict()) == keys
    assert not torch.allclose(guided, before, atol=1e-3)
    assert torch.equal(draw(model), before) and not LISTENERS


def test_a_scale_of_zero_costs_and_changes_nothing(model, predictor, drawing):
    before = draw(model)
    with predictor.attach(model, drawing, scale=0.0) as handle:
        assert torch.equal(draw(model), before)
        assert handle.losses == []


def test_guidance_lowers_the_loss_along_the_walk(model, predictor, drawing):
    with predictor.attach(model, drawing, scale=1e-9, end=1.0) as handle:
        draw(model, steps=8)
        without = handle.losses
    with predictor.attach(model, drawing, scale=0.3, end=1.0) as handle:
        draw(model, steps=8)
    assert handle.losses[-1] < without[-1]


@pytest.mark.parametrize("name", ["plms", "dpm_solver", "euler_a"])
def test_other_samplers_follow_a_sketch_too(name, model, predictor, drawing):
    from ldm.models.diffusion.sampler_registry import make_sampler

    def sampler(model):
        return make_sampler(name, model)

    torch.manual_seed(0)
    before = draw(model, sampler=sampler)
    torch.manual_seed(0)
    with predictor.attach(model, drawing, end=1.0):
        assert not torch.allclose(draw(model, sampler=sampler), before, atol=1e-3)


def test_each_sample_may_have_a_sketch_of_its_own(model, predictor, drawing):
    blank = Image.new("L", (40, 40), 0)
    with predictor.attach(model, [drawing, blank]) as handle:
        both = draw(model, pictures=2)
        assert handle.goal(both).shape == (2, 4, 8, 8)
        with pytest.raises(UserError, match="2 sketches are given for 3 samples"):
            draw(model, pictures=3)
    with predictor.attach(model, drawing):
        assert torch.allclose(draw(model, pictures=2)[:1], both[:1], atol=1e-3)


class Halved(Controller):
    def __call__(self, probs, site, moment, rows):
        return probs * 0.5 if site.kind == "cross" else None


def test_it_goes_together_with_attention_control(model, predictor, drawing):
    with control_attention(model, Halved()):
        control = draw(model)
        with predictor.attach(model, drawing):
            both = draw(model)
    with predictor.attach(model, drawing):
        sketch = draw(model)
    assert not torch.allclose(both, control, atol=1e-3)
    assert not torch.allclose(both, sketch, atol=1e-3)


def test_a_plan_of_devices_that_keeps_no_gradients_refuses_it_in_one_line(
    model, predictor, drawing
):
    from ldm.offload.plan import PlanSettings, StagePlan

    plan = StagePlan(model, PlanSettings(), torch.device("cpu")).attach()
    try:
        with predictor.attach(model, drawing), pytest.raises(UserError, match="plan") as error:
            draw(model)
        assert "\n" not in str(error.value)
    finally:
        plan.detach()


def test_inference_mode_is_refused(model, predictor, drawing):
    with (
        predictor.attach(model, drawing),
        torch.inference_mode(),
        pytest.raises(UserError, match="inference_mode, which keeps no gradients"),
    ):
        draw(model)


def test_edges_are_where_pictures_change_and_a_drawing_is_its_own_edges(drawing):
    picture = torch.full((1, 3, 8, 8), -1.0)
    picture[..., 4:] = 1.0
    edges = edges_of(picture)
    assert (edges[..., 3:5] == 1).all() and (edges[..., :2] == -1).all()
    bright = edges_drawn(drawing, (16, 16), dark_lines=False)
    dark = edges_drawn(Image.eval(drawing, lambda v: 255 - v), (16, 16), dark_lines=True)
    assert torch.equal(bright, dark) and bright.max() > 0.5 and bright[..., 0, 0].max() == -1


def test_a_file_gives_back_what_was_written(predictor, model, drawing, tmp_path):
    write_edge_predictor(predictor, tmp_path / "a.safetensors")
    read = read_edge_predictor(tmp_path / "a.safetensors")
    assert read.blocks == predictor.blocks and not read.report.unused
    assert read.report.summary() == (
        "sketch 'a.safetensors', ldm format, made for models of context width 32, 9 modules"
    )
    with predictor.attach(model, drawing):
        expected = draw(model)
    with read.attach(model, drawing):
        assert torch.equal(draw(model), expected)


METADATA = {
    "none": None,
    "no JSON": "{",
    "a list": "[]",
    "nothing in it": "{}",
    "no widths": lambda d: d | {"widths": d["widths"][:-1]},
    "huge": lambda d: d | {"hidden": [10**9]},
    "texts for numbers": lambda d: d | {"hidden": ["16", "8"]},
    "nested": "[" * 5000,
}


@pytest.mark.parametrize("fault", METADATA)
def test_a_file_that_does_not_say_what_it_is_is_refused_in_one_line(fault, predictor, tmp_path):
    good = tmp_path / "a.safetensors"
    write_edge_predictor(predictor, good)
    described = {"blocks": predictor.blocks, "widths": predictor.widths, "hidden": HIDDEN}
    value = METADATA[fault]
    text = json.dumps(value(described | {"out_channels": 4})) if callable(value) else value
    save_file(load_file(good), good, None if text is None else {"edge_predictor": text})
    with pytest.raises(UserError, match="is no edge predictor") as error:
        read_edge_predictor(good)
    assert "\n" not in str(error.value)


def test_weights_that_are_damaged_or_missing_are_refused(predictor, tmp_path):
    from safetensors import safe_open

    good = tmp_path / "a.safetensors"
    write_edge_predictor(predictor, good)
    state = load_file(good)
    with safe_open(good, "pt") as file:
        metadata = file.metadata()
    state["first.bias"][0] = float("inf")
    save_file(state, good, metadata)
    with pytest.raises(UserError, match="NaN or infinite"):
        read_edge_predictor(good)
    del state["first.bias"]
    save_file(state, good, metadata)
    with pytest.raises(UserError, match="first.bias missing"):
        read_edge_predictor(good)


def test_the_predictor_of_another_unet_is_refused(predictor, drawing):
    other = narrow_model(CONFIG | {"model": _wider()})
    with pytest.raises(UserError, match="is made for a UNet whose input_blocks"):
        predictor.attach(other, drawing)
    assert not LISTENERS


def _wider():
    import copy

    model = copy.deepcopy(CONFIG["model"])
    model["params"]["unet_config"]["params"]["model_channels"] = 64
    return model


def test_latents_of_edges_are_the_first_stages_mean(model, drawing):
    maps = edges_drawn(drawing, (16, 16), dark_lines=False)
    with torch.no_grad():
        expected = model.encode_first_stage(maps).mode() * model.scale_factor
    assert torch.equal(latents_of(model, maps), expected)
    assert np.isfinite(expected.numpy()).all()
