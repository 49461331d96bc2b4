"""A control on a model that works on a picture in parts: each part has its part of the hint."""

from __future__ import annotations

import pytest
import torch
from control_parts import drawing, inputs, make_model, original_names, peer_adapter, write_net
from safetensors.torch import save_file

from ldm.adapters.control import read_control
from ldm.adapters.handle import require_unet
from ldm.modules.attention_control.parts import Part, part_of_call, seeing


@pytest.fixture(scope="module")
def model():
    return make_model().requires_grad_(False)


@pytest.fixture(scope="module", params=["net", "adapter"])
def control(request, model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("controls")
    if request.param == "net":
        return read_control(write_net(folder, model), model)
    save_file(
        original_names(peer_adapter("full_adapter", 3).state_dict()), folder / "a.safetensors"
    )
    return read_control(folder / "a.safetensors", model)


def predict(model):
    with torch.no_grad():
        return require_unet(model)(*inputs())


@pytest.mark.parametrize("hint_side", [128, 64])  # as large as the canvas, or to be resized
def test_a_part_is_controlled_as_a_picture_of_that_part_alone(model, control, hint_side):
    whole = drawing(side=hint_side)
    large = torch.nn.functional.interpolate(whole, (128, 128), mode="bilinear", antialias=True)
    with control.attach(model, whole):
        found = []
        for rows, columns in (((0, 8), (0, 8)), ((4, 12), (8, 16)), ((0, 8), (0, 8))):
            with seeing(Part(rows, columns, 16, 16)):
                found.append(predict(model))
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])
    for out, part in ((found[0], large[..., :64, :64]), (found[1], large[..., 32:96, 64:])):
        with control.attach(model, part.clamp(0, 1)):
            torch.testing.assert_close(out, predict(model), atol=1e-5, rtol=1e-5)


def test_outside_of_parts_the_whole_hint_is_seen(model, control):
    with control.attach(model, drawing()):
        before = predict(model)
        with seeing(Part((0, 8), (0, 8), 16, 16)):
            predict(model)
        assert part_of_call() is None and torch.equal(predict(model), before)
