"""Prompt-to-prompt's kind of fork: attention patched from outside, layer by layer or by class."""

from __future__ import annotations

import pytest
import torch
from descendants.exercise import (
    assert_pictures,
    batch_of,
    build_hub,
    changed,
    drawn,
    fit,
    hub_config,
    items,
    weights_of,
)
from descendants.forks.prompt_to_prompt import Controller, register, register_on_class

PLAIN = "ldm.models.diffusion.ddpm.LatentDiffusion"
LAYERS = 8  # two in each of four transformer blocks


@pytest.fixture
def hub():
    return build_hub(hub_config(PLAIN)).eval()


def conditions(model):
    with torch.no_grad():
        return model.get_learned_conditioning(["a cat on a bike", "a dog on a bike"])


def patch(way, hub, controller, monkeypatch):
    if way == "layers":
        assert register(hub, controller) == LAYERS
    else:
        register_on_class(monkeypatch, controller)


@pytest.mark.parametrize("way", ["layers", "class"])
def test_a_controller_that_changes_nothing_sees_every_layer_and_draws_the_same(
    hub, way, monkeypatch
):
    c, controller = conditions(hub), Controller()
    plain = drawn(hub, c)
    patch(way, hub, controller, monkeypatch)
    torch.testing.assert_close(drawn(hub, c), plain, rtol=0, atol=2e-5)
    assert len(controller.seen) == 4 * LAYERS  # four steps
    assert [is_cross for is_cross, _ in controller.seen[:4]] == [False, True] * 2
    assert {shape[-1] for is_cross, shape in controller.seen if is_cross} == {77}


@pytest.mark.parametrize("way", ["layers", "class"])
def test_replaced_weights_are_the_ones_that_draw(hub, way, monkeypatch):
    c = conditions(hub)
    plain = drawn(hub, c)
    patch(way, hub, Controller(replace=True), monkeypatch)
    replaced = drawn(hub, c)
    torch.testing.assert_close(replaced[0], plain[0], rtol=0, atol=2e-5)
    assert not torch.allclose(replaced[1], plain[1], atol=1e-4)


@pytest.mark.parametrize("way", ["layers", "class"])
def test_training_and_previews_go_through_the_patch(way, monkeypatch):
    model, controller = build_hub(hub_config(PLAIN)), Controller()
    patch(way, model, controller, monkeypatch)
    before = weights_of(model.model)
    fit(model, items())
    assert len(controller.seen) == 2 * LAYERS
    assert any(name.endswith("attn2.to_k.weight") for name in changed(model.model, before))
    log = model.log_images(batch_of(items(2)), N=2, ddim_steps=2, plot_progressive_rows=False)
    assert_pictures(log, "samples")
    assert len(controller.seen) > 2 * LAYERS
