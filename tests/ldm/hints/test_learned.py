"""Hints by networks in local folders: a tiny one of transformers, and what is missing."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ldm.errors import UserError
from ldm.hints.learned import _nearness
from ldm.hints.make import make_hint


def picture(width=37, height=23):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def dpt(tmp_path_factory):
    """A folder of transformers with a tiny DPT of random weights."""
    from transformers import DPTConfig, DPTForDepthEstimation, DPTImageProcessor

    folder = tmp_path_factory.mktemp("dpt")
    config = DPTConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        reassemble_factors=[4, 2, 1, 0.5],
        is_hybrid=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        DPTForDepthEstimation(config).save_pretrained(folder)
    DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def test_depth_equals_transformers_own_pipeline_of_steps(dpt):
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    made = np.asarray(make_hint("depth", picture(), model=str(dpt), device="cpu"))[..., 0]
    network = AutoModelForDepthEstimation.from_pretrained(dpt).eval()
    processor = AutoImageProcessor.from_pretrained(dpt)
    with torch.no_grad():
        found = network(**processor(images=picture(), return_tensors="pt"))
    sized = processor.post_process_depth_estimation(found, target_sizes=[(23, 37)])
    values = sized[0]["predicted_depth"].numpy()
    wanted = (values - values.min()) / (values.max() - values.min()) * 255
    assert np.abs(made - wanted).max() <= 1.0
    assert made.min() == 0 and made.max() == 255


def test_depth_in_metres_is_turned_so_that_near_is_white():
    near = _nearness(np.array([[1.0, 2.0, 4.0]]), SimpleNamespace(model_type="zoedepth"))
    assert near[0].tolist() == pytest.approx([255, 85, 0])
    relative = _nearness(np.array([[1.0, 2.0, 4.0]]), SimpleNamespace(model_type="dpt"))
    assert relative[0].tolist() == pytest.approx([0, 85, 255])


def test_normals_of_any_picture_come_by_way_of_a_depth_network(dpt):
    options = {"model": str(dpt), "device": "cpu"}
    by_hand = make_hint("normal", make_hint("depth", picture(), **options))
    assert make_hint("normal", picture(), **options) == by_hand


def test_a_folder_that_lacks_something_is_told_in_one_line(dpt, tmp_path):
    def told(kind, folder):
        with pytest.raises(UserError) as caught:
            make_hint(kind, picture(), model=str(folder), device="cpu")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in told("depth", tmp_path / "nowhere")
    assert "lacks config.json" in told("depth", tmp_path)
    assert "lacks ControlNetHED.pth" in told("hed", tmp_path)
    assert "lacks body_pose_model.pth" in told("openpose", tmp_path)
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((dpt / name).read_bytes())
    assert "has no weights" in told("depth", tmp_path)
    tensors = load_file(dpt / "model.safetensors")
    gone = sorted(tensors)[0]
    save_file({k: v for k, v in tensors.items() if k != gone}, tmp_path / "model.safetensors")
    assert f"lacks 1 of the network's tensors, such as {gone}" in told("depth", tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "no depth network" in told("depth", tmp_path)


@pytest.mark.skipif(
    importlib.util.find_spec("controlnet_aux") is not None, reason="the package is there"
)
def test_a_missing_package_is_named_with_what_to_run(tmp_path):
    (tmp_path / "ControlNetHED.pth").touch()
    with pytest.raises(UserError, match="pip install controlnet_aux"):
        make_hint("hed", picture(), model=str(tmp_path))


def test_a_detectors_picture_comes_back_in_the_pictures_size(tmp_path, monkeypatch):
    """The package is replaced: it is not among the tests' dependencies."""
    asked = {}

    class Detector:
        @classmethod
        def from_pretrained(cls, folder):
            asked["folder"] = folder
            return cls()

        def to(self, device):
            asked["device"] = str(device)
            return self

        def __call__(self, shown, **sizes):
            return shown.convert("L").resize((64, 64))

    package = ModuleType("controlnet_aux")
    package.HEDdetector = Detector
    monkeypatch.setitem(sys.modules, "controlnet_aux", package)
    (tmp_path / "ControlNetHED.pth").touch()
    made = make_hint("hed", picture(), model=str(tmp_path), device="cpu")
    assert (made.mode, made.size) == ("RGB", (37, 23))
    assert asked == {"folder": str(tmp_path), "device": "cpu"}
