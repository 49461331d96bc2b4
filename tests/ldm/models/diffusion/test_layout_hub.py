"""The layout hub shows the boxes it was given, named by the data set."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from family_models import family_config
from small_pictures import noise, save
from tiny_model import CONFIG
from torch.utils.data import default_collate

from ldm.data.layout import LayoutFolder
from ldm.errors import UserError
from ldm.models.diffusion.ddpm import LatentDiffusion
from ldm.models.diffusion.layout import Layout2ImgDiffusion
from ldm.models.diffusion.preview import light_settings

TOKENS = {
    "target": "ldm.modules.encoders.modules.TransformerEmbedder",
    "params": {"n_embed": 32, "n_layer": 1, "vocab_size": 100, "max_seq_len": 11},
}
LIGHT = {"sample": False, "plot_progressive_rows": False, "plot_diffusion_rows": False}


def hub(**changes) -> Layout2ImgDiffusion:
    params = {**CONFIG["model"]["params"], "cond_stage_config": TOKENS, "timesteps": 10}
    del params["cond_stage_key"]
    return Layout2ImgDiffusion(**{**params, "first_stage_key": "image", **changes}).eval()


@pytest.fixture
def data(tmp_path) -> LayoutFolder:
    """Two pictures: a dog on the left half of the first, a cat in the second's lower right."""
    boxes = [(1, 7, [0, 0, 10, 20]), (2, 3, [10, 10, 10, 10])]
    for number in (1, 2):
        save(tmp_path / f"{number}.png", noise(20, 20))
    content = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in (1, 2)],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{"image_id": i, "category_id": c, "bbox": box} for i, c, box in boxes],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    return LayoutFolder(
        str(tmp_path), str(tmp_path / "boxes.json"), 16, max_objects=3, no_tokens=100
    )


def with_data(model, **sets):
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(datasets=sets))
    return model


def white(picture: torch.Tensor) -> torch.Tensor:
    return (picture == 1).all(0)


def test_boxes_are_drawn_where_the_objects_are(data):
    model = with_data(hub(), validation=data)
    pictures = model.log_images(default_collate([data[0], data[1]]), N=2, **LIGHT)
    dog, cat = pictures["bbox_image"]
    assert dog.shape == (3, 256, 256) and set(pictures) >= {"inputs", "reconstruction"}
    # 100 tokens are a grid of 10 x 10: a half is 4 of its 9 steps.
    half, end = round(4 / 9 * 255), 255
    assert not white(dog)[128, half - 2 : half + 1].any() and not white(dog)[5:250, 1].any()
    assert not white(cat)[half, half:end].any() and white(cat)[20 : half - 5, 20 : half - 5].all()
    assert white(dog)[100:250, half + 5 : end - 5].all()


def test_the_name_stands_in_the_box(data):
    names = {}
    for name in ("cat", "caterpillar"):
        data.categories[0] = name
        model = with_data(hub(), validation=data)
        (names[name],) = model.log_images(default_collate([data[1]]), **LIGHT)["bbox_image"]
    assert not torch.equal(*names.values())


class OtherShape:
    """A data set of taming-transformers' kind, with other numbers for categories."""

    def __init__(self):
        self.conditional_builders = {"coordinates_bbox": self}

    def get_category_id(self, number):
        return f"/m/{number}"

    def get_textual_label(self, identifier):
        return {"/m/5": "tree"}[identifier]

    def plot(self, conditional, name, size):
        assert size == (256, 256) and not conditional.requires_grad
        return torch.full((3, *size), float(len(name(int(conditional[0])))))


@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: SimpleNamespace(data=d)])
@pytest.mark.parametrize(
    ("name", "training"), [("train", True), ("validation", False), ("x", False)]
)
def test_data_sets_of_the_reference_s_shape_draw_themselves(wrap, name, training):
    model = with_data(hub(), other=object(), **{name: wrap(OtherShape())}).train(training)
    batch = {"image": torch.zeros(2, 16, 16, 3), "coordinates_bbox": torch.full((2, 11), 5)}
    shown = model.log_images(batch, N=1, **LIGHT)["bbox_image"]
    assert shown.shape == (1, 3, 256, 256) and (shown == 4).all()


def test_the_running_set_draws_first():
    class Other(OtherShape):
        def plot(self, conditional, name, size):
            return torch.zeros(3, *size)

    model = with_data(hub(), train=Other(), validation=OtherShape())
    batch = {"image": torch.zeros(1, 16, 16, 3), "coordinates_bbox": torch.full((1, 11), 5)}
    assert (model.log_images(batch, **LIGHT)["bbox_image"] == 4).all()
    assert (model.train().log_images(batch, **LIGHT)["bbox_image"] == 0).all()


@pytest.mark.parametrize("trainer", [None, SimpleNamespace(), SimpleNamespace(datamodule=None)])
def test_without_a_data_set_there_is_no_picture_of_boxes(trainer):
    model = hub()
    model._trainer = trainer
    batch = {"image": torch.zeros(1, 16, 16, 3), "coordinates_bbox": torch.full((1, 11), 5)}
    assert set(model.log_images(batch, **LIGHT)) == {"inputs", "reconstruction"}


def test_the_hub_is_for_layouts_alone_and_shows_lightly_in_training():
    model = hub()
    assert isinstance(model, LatentDiffusion) and model.bbox_tokenizer is None
    assert model.cond_stage_key == "coordinates_bbox"
    assert light_settings(model, {})["ddim_steps"] == 25
    with pytest.raises(UserError, match="take LatentDiffusion"):
        hub(cond_stage_key="caption")
    params = family_config("unconditional")["model"]["params"]
    first, second = (params.pop(f"{name}_stage_config") for name in ("first", "cond"))
    del second
    given = Layout2ImgDiffusion("coordinates_bbox", first, TOKENS, **params)  # by position
    assert given.first_stage_model is not None
