"""Objects from configurations, and errors that say where in the YAML something is wrong."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from torch import nn

from ldm.building import build_from, place
from ldm.errors import UserError
from ldm.util import instantiate_from_config


def linear(**params):
    return {"target": "torch.nn.Linear", "params": params}


def test_a_target_is_built_with_its_params():
    layer = instantiate_from_config(linear(in_features=3, out_features=5))
    assert layer.weight.shape == (5, 3)


def test_an_unknown_param_names_class_key_place_and_nearest_match():
    with pytest.raises(UserError) as caught:
        build_from(linear(in_feature=3, out_features=5), where="model.params.x")
    message = str(caught.value)
    for part in ("Linear", "'in_feature'", "model.params.x.params.in_feature", "'in_features'"):
        assert part in message


def test_a_missing_param_is_named_with_class_and_place():
    with pytest.raises(UserError, match=r"model\.params\.x\.params: Linear needs out_features"):
        build_from(linear(in_features=3), where="model.params.x")


def test_a_param_given_beside_the_config_is_not_missing():
    assert instantiate_from_config(linear(in_features=3), out_features=5).weight.shape == (5, 3)


def test_an_unknown_param_is_found_through_kwargs_of_a_subclass():
    config = {
        "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
        "params": {"linear_strat": 1e-4, "first_stage_config": {}, "cond_stage_config": {}},
    }
    with pytest.raises(UserError, match="did you mean 'linear_start'"):
        instantiate_from_config(config)


@pytest.mark.parametrize("target", ["torch.nn.Linaer", "no_such_package.Thing", "Linear"])
def test_a_target_that_cannot_be_imported_says_where(target):
    with pytest.raises(UserError, match=r"unet_config\.target.*" + target):
        build_from({"target": target}, where="unet_config")


@pytest.mark.parametrize("config", [{"params": {}}, "torch.nn.Linear", 3])
def test_a_config_without_target_is_refused(config):
    with pytest.raises(UserError, match="target"):
        instantiate_from_config(config)


class Whole(nn.Module):
    """Builds a part as models do, and another without saying its place."""

    def __init__(self, part_config, other=None):
        super().__init__()
        with place("part_config"):
            self.part = instantiate_from_config(part_config)
        if other is not None:
            self.other = instantiate_from_config(other)


def whole(**params):
    return {"target": "made_of_parts.Whole", "params": params}


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    module = ModuleType("made_of_parts")
    module.Whole = Whole
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("x", "model: 'x' given"),
        ({"params": {}}, "model: has no 'target'"),
        (whole(part_config={}), "model.params.part_config: has no 'target'"),
        (whole(part_config=linear(in_features=1)), "model.params.part_config.params: Linear needs"),
        (
            whole(part_config=whole(part_config={"target": "torch.nn.Linaer"})),
            "model.params.part_config.params.part_config.target: 'torch.nn.Linaer' cannot",
        ),
        (whole(part_config="__is_first_stage__", other={}), "model.params: has no 'target'"),
    ],
)
def test_the_place_of_a_part_is_the_whole_way_to_it(config, expected):
    with place("model"), pytest.raises(UserError) as caught:
        instantiate_from_config(config)
    assert str(caught.value).startswith(expected)


def test_a_place_ends_with_its_block_also_after_an_error():
    with pytest.raises(UserError), place("model"):
        instantiate_from_config({})
    with pytest.raises(UserError, match="^config: has no"):
        instantiate_from_config({})


def test_what_has_no_config_is_called_config():
    with pytest.raises(UserError, match="^config: 3 given"):
        build_from(3)
