"""A value of the wrong kind in a configuration is one line that names its place."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from tiny_training import TINY_DIFFUSION

from ldm.building import build_from, refusals_in_words
from ldm.checkpoint.load import build_empty
from ldm.config import build, load_config
from ldm.errors import UserError
from ldm.training.data import DataModuleFromConfig

FIRST, UNET = "model.params.first_stage_config", "model.params.unet_config"
WRONG = {
    FIRST: [
        "ddconfig.ch=30",
        "ddconfig.ch=x",
        "ddconfig.ch_mult=1,2",
        "ddconfig.ch_mult=3",
        "ddconfig.dropout=2",
        "ddconfig.z_channels=four",
        "ddconfig.resolution=big",
        "ddconfig.attn_resolutions=5",
        "embed_dim=",
        "embed_dim=two",
    ],
    UNET: [
        "attention_resolutions=2",
        "model_channels=20",
        "model_channels=x",
        "channel_mult=7",
        "in_channels=-1",
    ],
    "model": ["timesteps=x", "timesteps=1.5", "linear_start=x", "num_timesteps_cond=x"],
}
CASES = [(place, f"{place}.params.{change}") for place in WRONG for change in WRONG[place]]


@pytest.fixture
def configured(tmp_path):
    OmegaConf.save(OmegaConf.create({"model": TINY_DIFFUSION}), tmp_path / "a.yaml")
    return lambda *overrides: load_config(tmp_path / "a.yaml", overrides=overrides)


@pytest.mark.parametrize("make", [build, build_empty], ids=["to train", "to draw"])
@pytest.mark.parametrize(("place", "override"), CASES, ids=[override for _, override in CASES])
def test_what_a_class_refuses_is_told_with_its_place(configured, make, place, override):
    with pytest.raises(UserError) as caught:
        make(configured(override))
    text = str(caught.value)
    assert text.startswith(f"{place}: ldm.") and "cannot be built" in text and "\n" not in text
    assert ".py, line " in text and caught.value.__cause__ is not None


@pytest.mark.parametrize(
    "override",
    [
        f"{FIRST}.params.ddconfig.ch_mult.0=2",
        "model.params.scale_factor=[1",
        "model.params=[1,2]",
        "model.params=5",
        f"{UNET}.params=5",
        f"{UNET}=5",
        "model=5",
        "model.target=5",
        "model.target=null",
    ],
)
def test_what_is_no_description_of_an_object_is_told(configured, override):
    with pytest.raises(UserError, match=r"expected|cannot be merged"):
        build(configured(override))


class Fork:
    """Somebody's own class with a mistake in it."""

    def __init__(self, error: str = "AttributeError"):
        raise {"AttributeError": AttributeError, "KeyError": KeyError}[error]("mistake")


def test_a_mistake_in_somebodys_own_class_stays_a_traceback():
    with pytest.raises(AttributeError, match="mistake"), refusals_in_words():
        build_from({"target": f"{__name__}.Fork"})


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_a_lack_of_memory_is_not_called_a_wrong_value(monkeypatch, error):
    def full(*_, **__):
        raise error("full")

    monkeypatch.setattr(torch.nn.Linear, "__init__", full)
    with pytest.raises(error), refusals_in_words():
        build_from({"target": "torch.nn.Linear"})


@pytest.mark.parametrize("value", ["two", "2", 2.5, 0, -1, None, True, [4], {"a": 1}, float("nan")])
def test_a_batch_size_is_a_whole_number(value):
    with pytest.raises(UserError, match=r"data\.params\.batch_size is .*1 or more"):
        DataModuleFromConfig(value, num_workers=0)


@pytest.mark.parametrize("value", ["two", 0.5, -1, False, [4]])
def test_a_number_of_workers_is_a_whole_number(value):
    with pytest.raises(UserError, match=r"data\.params\.num_workers is .*0 or more"):
        DataModuleFromConfig(4, num_workers=value)


def test_a_whole_number_may_be_written_with_a_point():
    module = DataModuleFromConfig(4.0, num_workers=1.0)
    assert (module.batch_size, module.num_workers) == (4, 1)
    assert type(module.batch_size) is type(module.num_workers) is int


@pytest.mark.parametrize("params", [{"p": "x"}, {"p": None}])
def test_a_wrong_value_of_a_data_set_is_told_with_its_place(params):
    given = {"target": "torch.nn.Dropout", "params": params}
    with pytest.raises(UserError, match=r"data\.params\.train: torch\.nn\.Dropout cannot be built"):
        DataModuleFromConfig(4, train=given, num_workers=0).setup()
