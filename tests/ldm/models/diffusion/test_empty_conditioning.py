"""What stands for no conditioning."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from ldm.errors import UserError
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.empty_conditioning import EmptyConditioning


class Classes:
    """A conditioner of five classes, whose numbers it returns."""

    key, n_classes = "label", 5


class OwnClasses(Classes):
    """SD 2's: it knows what its own empty class is."""

    def get_unconditional_conditioning(self, bs, device="cpu"):
        return {self.key: torch.full((bs,), 3.0, device=device)}


class Hub(EmptyConditioning):
    """A hub that encodes by numbering: what it was given is told by the result."""

    device, first_stage_key = torch.device("cpu"), "image"

    def __init__(self, key: str, conditioner=None, conditioning_key: str | None = "crossattn"):
        self.cond_stage_key, self.cond_stage_model = key, conditioner or nn.Module()
        self.model = SimpleNamespace(conditioning_key=conditioning_key)

    def get_learned_conditioning(self, c):
        if isinstance(c, dict):
            return c["label"].float().reshape(-1, 1, 1)
        if torch.is_tensor(c):
            return c
        return torch.tensor([float(len(text)) for text in c]).reshape(-1, 1, 1).expand(-1, 2, 3)


@pytest.mark.parametrize(
    ("hub", "label", "value"),
    [
        (Hub("txt"), None, 0.0),
        (Hub("caption"), "", 0.0),
        (Hub("any text of mine"), None, 0.0),
        (Hub("txt"), "four", 4.0),
        (Hub("txt"), ["four"], 4.0),
        (Hub("txt"), ["four"] * 3, 4.0),
        (Hub("txt"), OmegaConf.create(["four"]), 4.0),
        (Hub("txt"), torch.full((1, 2, 3), 7.0), 7.0),
        (Hub("class_label", Classes()), None, 4.0),
        (Hub("cls", OwnClasses()), None, 3.0),
        (Hub("class_label", Classes()), 0, 0.0),
        (Hub("cls", Classes()), {"label": torch.tensor([2])}, 2.0),
    ],
)
def test_one_row_stands_for_the_whole_batch(hub, label, value):
    encoded = hub.get_unconditional_conditioning(3, label)
    assert len(encoded) == 3 and (encoded == value).all()
    assert not encoded.requires_grad


@pytest.mark.parametrize(
    "hub",
    [
        Hub("coordinates_bbox"),
        Hub("image"),
        Hub("LR_image", conditioning_key="concat"),
        Hub("txt", conditioning_key=None),
        Hub("class_label"),
    ],
)
def test_what_has_no_empty_form_is_refused_unless_one_is_given(hub):
    with pytest.raises(UserError, match="null_label"):
        hub.get_unconditional_conditioning(2)
    given = hub.get_unconditional_conditioning(2, torch.ones(1, 4))
    assert given.shape == (2, 4)


def test_encoders_that_return_several_tensors_are_repeated_part_by_part():
    hub = Hub("txt")
    hub.get_learned_conditioning = lambda c: [torch.ones(1, 2), {"c_adm": torch.ones(1, 3, 4)}]
    first, rest = hub.get_unconditional_conditioning(3, "a")
    assert first.shape == (3, 2) and rest["c_adm"].shape == (3, 3, 4)


def test_a_label_of_another_number_of_rows_is_refused():
    with pytest.raises(UserError, match="2 rows given; expected one, or 3"):
        Hub("txt").get_unconditional_conditioning(3, ["a", "b"])


def test_the_public_hub_has_it():
    own = EmptyConditioning.get_unconditional_conditioning
    assert LatentDiffusion.get_unconditional_conditioning is own
