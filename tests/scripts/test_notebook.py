"""The notebook: valid, empty of outputs, and running from top to bottom without the network."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
import torch
from family_models import CLASSES, write_family_model
from PIL import Image
from running import ROOT, load_program

from ldm.errors import UserError
from ldm.pipelines import showcase

NOTEBOOK = ROOT / "scripts" / "latent_imagenet_diffusion.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def helpers():
    return load_program("scripts/notebook_helpers.py")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """Put narrow models where the published weights would be."""
    kinds = {"class_conditional": "class", "superresolution": "upscaling"}
    files = {}
    for mode, kind in kinds.items():
        folder = write_family_model(tmp_path / kind, kind)
        files[mode] = (str(folder / "model.safetensors"), str(folder / "config.yaml"))
    monkeypatch.setattr(showcase, "MODELS", files)


@pytest.fixture
def nothing_published(tmp_path, monkeypatch):
    absent = {mode: (str(tmp_path / "no.ckpt"), "no.yaml") for mode in showcase.MODELS}
    monkeypatch.setattr(showcase, "MODELS", absent)


def code_of(notebook) -> str:
    """Return the notebook's program with the least that can be drawn."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    small = {"n_samples_per_class": 1, "ddim_steps": 1, "custom_steps": 1}
    for name, value in small.items():
        text, count = re.subn(rf"\b{name} ?= ?\d+", f"{name}={value}", text)
        assert count == 1, name
    return text


def execute(notebook, monkeypatch) -> dict:
    monkeypatch.chdir(ROOT / "scripts")
    monkeypatch.setattr(sys, "path", list(sys.path))
    names: dict = {}
    exec(compile(code_of(notebook), str(NOTEBOOK), "exec"), names)
    return names


def test_it_is_of_nbformat_4_5_with_named_cells_and_no_outputs(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name) for name in ids)
    for cell in notebook["cells"]:
        expected = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            expected |= {"execution_count", "outputs"}
            assert cell["outputs"] == [] and cell["execution_count"] is None
        assert cell.keys() == expected
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_it_runs_from_top_to_bottom_with_the_model_that_ships(
    notebook, nothing_published, monkeypatch, capsys
):
    names = execute(notebook, monkeypatch)
    assert [picture.size for picture in names["pictures"]] == [(64, 64)] * 4
    assert names["upscaler"] is None and names["large"] is names["small"]
    shown = capsys.readouterr().out
    assert "is missing" in shown and "small demo model" in shown
    assert showcase.DEMO_CLASSES[0] in shown


def test_it_runs_from_top_to_bottom_with_published_weights(
    notebook, published, monkeypatch, capsys
):
    names = execute(notebook, monkeypatch)
    assert names["n_classes"] == CLASSES
    assert [picture.size for picture in names["pictures"]] == [(16, 16)] * 4
    assert names["large"].size == (128, 128)
    assert capsys.readouterr().out.count("Loading") == 2


def test_the_stand_ins_classes_are_captions_and_the_last_is_the_empty_text(
    helpers, nothing_published
):
    model = helpers.get_model("class_conditional", device="cpu")
    count = model.cond_stage_model.n_classes
    labels = torch.tensor([2, count - 1])
    with torch.no_grad():
        encoded = model.get_learned_conditioning({"class_label": labels})
        texts = model.cond_stage_model.text_encoder([showcase.DEMO_CLASSES[2], ""])
    assert torch.equal(encoded, texts)
    assert helpers.class_name(model, 2) == showcase.DEMO_CLASSES[2]
    assert helpers.class_name(model, count - 1) == "none"


def test_classes_of_imagenet_have_their_names(helpers, published):
    model = helpers.get_model("class_conditional", device="cpu")
    names = [helpers.class_name(model, label) for label in (0, 207, 1000)]
    assert names == ["tench", "golden retriever", "none"]


def test_a_picture_for_each_class_whatever_else_is_drawn_along(helpers, published):
    model = helpers.get_model("class_conditional", device="cpu")
    both = helpers.run(model, [1, 3], custom_steps=2)
    again = helpers.run(model, [3], custom_steps=2, seed=43)
    assert len(both) == 2 and both[0].size == (16, 16)
    gap = np.asarray(both[1]).astype(int) - np.asarray(again[0])
    assert np.abs(gap).max() <= 1


def test_conditioning_has_a_batchs_names_and_ranges(helpers):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    example = helpers.get_cond("superresolution", Image.fromarray(pixels))
    assert example["LR_image"].shape == (1, 3, 5, 3) and example["image"].shape == (1, 12, 20, 3)
    expected = torch.from_numpy(pixels)[None] / 127.5 - 1
    torch.testing.assert_close(example["LR_image"], expected)
    assert helpers.get_cond("class_conditional", [4, 2])["class_label"].tolist() == [4, 2]


def test_latents_are_sampled_under_the_references_name(helpers, published):
    model = helpers.get_model("superresolution", device="cpu")
    latents, kept = helpers.convsample_ddim(model, torch.zeros(1, 3, 8, 8), 2, (1, 4, 8, 8))
    assert latents.shape == (1, 4, 8, 8) and {"x_inter", "pred_x0"} <= set(kept)


def test_an_unknown_mode_is_told(helpers):
    with pytest.raises(UserError, match="mode 'depth' given; expected class_conditional"):
        helpers.get_model("depth")
