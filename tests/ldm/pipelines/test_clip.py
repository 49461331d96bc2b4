"""CLIP's towers from a file: texts and pictures become directions in one space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ldm.errors import UserError
from ldm.modules.encoders import clip_projected
from ldm.modules.encoders.clip_towers import CLIPImageTower, CLIPSizes, CLIPTextTower, TowerSizes
from ldm.pipelines.clip import ClipPictures, ClipTexts, square

CPU = torch.device("cpu")
TOWER = TowerSizes(width=32, heads=2, layers=1, mlp=64)
SMALL = CLIPSizes(24, TOWER, TOWER, patch_size=16, image_size=32, activation="quick_gelu")


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A file of a small CLIP model that passes for ViT-L/14."""
    monkeypatch.setattr(clip_projected, "clip_sizes", lambda arch: SMALL)

    def write(seed):
        torch.manual_seed(seed)
        state = CLIPTextTower(SMALL).state_dict()
        pictures = CLIPImageTower(SMALL).state_dict()
        state |= {f"visual.{name}": value for name, value in pictures.items()}
        save_file(state, tmp_path / f"{seed}.safetensors")
        return tmp_path / f"{seed}.safetensors"

    return write


def test_texts_and_pictures_share_a_space_and_have_length_one(weights):
    path = weights(0)
    texts = ClipTexts("ViT-L/14", path, CPU)(["a cat", "a dog", "a cat"])
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    pictures = ClipPictures("ViT-L/14", path, CPU)([Image.fromarray(each) for each in noise])
    assert texts.shape == (3, 24) and pictures.shape == (2, 24)
    for rows in (texts, pictures):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(rows)))
    assert torch.equal(texts[0], texts[2]) and not torch.allclose(texts[0], texts[1])


def test_a_picture_is_seen_as_its_middle_square():
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    seen = np.asarray(square(Image.fromarray(pixels), 5))
    assert seen.shape == (5, 5, 3) and seen[:, 1:4].min() == 200


def test_the_embedder_tells_weights_apart(weights):
    one, same, other = (ClipPictures("ViT-L/14", weights(seed), CPU).embedder for seed in (0, 0, 1))
    assert one == same and one != other and one.clip_type == other.clip_type == "ViT-L/14"


def test_a_path_without_weights_is_told(tmp_path):
    for make in (ClipTexts, ClipPictures):
        with pytest.raises(UserError, match=r"--clip_ckpt .*none.pt does not exist"):
            make("ViT-L/14", tmp_path / "none.pt", CPU)
