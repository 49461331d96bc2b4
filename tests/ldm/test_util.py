"""Building objects from configurations, and the small helpers."""

from __future__ import annotations

import importlib

import pytest
import torch

from ldm.util import (
    count_params,
    default,
    get_obj_from_str,
    instantiate_from_config,
    isimage,
    ismap,
    log_txt_as_img,
    mean_flat,
)


def test_placeholders_build_nothing():
    assert instantiate_from_config("__is_first_stage__") is None
    assert instantiate_from_config("__is_unconditional__") is None


def test_get_obj_from_str_imports_what_the_path_names():
    assert get_obj_from_str("torch.nn.Linear") is torch.nn.Linear


def test_default_calls_functions_only_when_needed():
    assert default(0, lambda: 1) == 0
    assert default(None, lambda: 1) == 1
    assert default(None, 2) == 2


def test_pictures_and_label_maps_are_told_by_channels():
    assert isimage(torch.zeros(1, 3, 2, 2)) and isimage(torch.zeros(1, 1, 2, 2))
    assert ismap(torch.zeros(1, 5, 2, 2)) and not ismap(torch.zeros(1, 3, 2, 2))
    assert not isimage("x") and not ismap(torch.zeros(3, 3))


def test_mean_flat_keeps_the_batch():
    assert torch.equal(
        mean_flat(torch.tensor([[[1.0, 3.0]], [[5.0, 5.0]]])), torch.tensor([2.0, 5])
    )


def test_count_params_counts_weights_and_biases():
    assert count_params(torch.nn.Linear(3, 5)) == 20


def test_captions_are_drawn_black_on_white():
    drawn = log_txt_as_img((64, 32), ["a cat", ""])
    assert drawn.shape == (2, 3, 32, 64)
    assert drawn[0].min() < 0 < drawn[0].max() == 1
    assert drawn[1].min() == 1


def test_captions_need_no_file_of_the_folder_one_stands_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert log_txt_as_img((64, 32), ["a cat"]).min() < 0


@pytest.mark.parametrize(
    ("module", "name"),
    [("ldm.models.autoencoder", "VQModel"), ("ldm.modules.encoders.modules", "BERTEmbedder")],
)
def test_names_that_lie_elsewhere_are_seen_imported_and_the_same_each_time(module, name):
    offering = importlib.import_module(module)
    assert name in dir(offering) and name in offering.__all__
    assert getattr(offering, name) is getattr(offering, name) is vars(offering)[name]
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        offering.Nothing  # noqa: B018


@pytest.mark.parametrize(
    ("name", "home"),
    [
        ("rearrange", "einops"),
        ("isfunction", "inspect"),
        ("parallel_data_prefetch", "ldm.prefetch"),
    ],
)
def test_what_the_references_file_imports_is_offered(name, home):
    assert getattr(importlib.import_module("ldm.util"), name) is getattr(
        importlib.import_module(home), name
    )
