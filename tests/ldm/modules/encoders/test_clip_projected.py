"""CLIP's rows for texts and pictures, beside open_clip's and transformers' models."""

from __future__ import annotations

import json

import pytest
import torch
from golden.fill import official_state
from safetensors.torch import save_file
from torch import nn

from ldm.errors import UserError
from ldm.modules.encoders import clip_projected, clip_weights
from ldm.modules.encoders.clip_towers import CLIPImageTower, CLIPTextTower, clip_sizes
from ldm.modules.encoders.modules import FrozenClipImageEmbedder, FrozenCLIPTextEmbedder

SMALL = {
    "embed_dim": 24,
    "text": {"width": 32, "heads": 4, "layers": 2, "mlp": 128},
    "image": {"width": 64, "heads": 1, "layers": 2, "mlp": 256},
    "patch_size": 16,
    "image_size": 32,
}
TEXTS = ["a cat", "a dog on a mat", ""]


class WholeModel(CLIPTextTower):
    """Both towers under the names of OpenAI's and open_clip's files."""

    def __init__(self):
        sizes = clip_projected._sizes("ViT-L/14", SMALL)
        super().__init__(sizes)
        self.visual = CLIPImageTower(sizes)


@pytest.fixture(scope="module")
def state():
    model = WholeModel()
    return official_state(model)


@pytest.fixture
def file(state, tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(autouse=True)
def empty_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(clip_weights, "OPENAI_CACHE", tmp_path / "clip")


@pytest.fixture(scope="module")
def theirs(state):
    pytest.importorskip("open_clip")
    from open_clip.model import CLIP

    text = {"width": 32, "heads": 4, "layers": 2}
    image = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
    model = CLIP(embed_dim=24, vision_cfg=image, text_cfg=text, quick_gelu=True).eval()
    model.load_state_dict(state, strict=True)
    return model


def pictures(side: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_texts_get_open_clips_rows(file, theirs):
    import open_clip

    embedder = FrozenCLIPTextEmbedder(weights=file, sizes=SMALL)
    expected = theirs.encode_text(open_clip.tokenize(TEXTS), normalize=True)
    assert torch.allclose(embedder(TEXTS), expected, atol=1e-5)
    assert torch.allclose(embedder(TEXTS).norm(dim=1), torch.ones(3))


@torch.no_grad()
def test_pictures_get_open_clips_rows(file, theirs):
    embedder = FrozenClipImageEmbedder("ViT-L/14", weights=file, sizes=SMALL)
    mean, std = (torch.tensor(v)[:, None, None] for v in (clip_projected.MEAN, clip_projected.STD))
    expected = theirs.encode_image(((pictures() + 1) / 2 - mean) / std)
    assert torch.allclose(embedder(pictures()), expected, atol=1e-5)


@torch.no_grad()
def test_tokens_are_repeated_and_lengths_kept_where_asked(file):
    embedder = FrozenCLIPTextEmbedder(weights=file, sizes=SMALL, n_repeat=3, normalize=False)
    out = embedder.encode("a cat")
    assert out.shape == (1, 3, 24)
    assert torch.equal(out[:, 0], out[:, 2]) and not torch.allclose(out.norm(dim=2), torch.ones(1))


@pytest.mark.parametrize("antialias", [False, True])
def test_pictures_of_any_size_are_brought_to_clips_square(file, antialias):
    embedder = FrozenClipImageEmbedder("ViT-L/14", weights=file, sizes=SMALL, antialias=antialias)
    grey = torch.zeros(1, 3, 50, 90)
    ready = embedder.preprocess(grey)
    assert ready.shape == (1, 3, 32, 32)
    expected = (0.5 - embedder.mean) / embedder.std
    assert torch.allclose(ready[0, :, 5, 5], expected, atol=1e-5)


def test_without_antialias_pictures_are_resized_as_by_the_references_library(file):
    kornia = pytest.importorskip("kornia")
    embedder = FrozenClipImageEmbedder("ViT-L/14", weights=file, sizes=SMALL)
    options = {"interpolation": "bicubic", "align_corners": True, "antialias": False}
    small = kornia.geometry.resize(pictures(45), (32, 32), **options)
    expected = kornia.enhance.normalize((small + 1) / 2, embedder.mean, embedder.std)
    assert torch.allclose(embedder.preprocess(pictures(45)), expected, atol=1e-5)


@torch.no_grad()
def test_a_folder_of_transformers_serves_as_well(tmp_path):
    transformers = pytest.importorskip("transformers")
    common = {"num_hidden_layers": 2, "intermediate_size": 128}
    text = {"hidden_size": 32, "num_attention_heads": 4, "eos_token_id": 49407, **common}
    vision = {"hidden_size": 64, "num_attention_heads": 1, "image_size": 32, "patch_size": 16}
    config = transformers.CLIPConfig(
        text_config=text,
        vision_config={**vision, **common, "intermediate_size": 256},
        projection_dim=24,
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["projection_dim"] == 24

    embedder = FrozenCLIPTextEmbedder(weights=tmp_path, sizes=SMALL)
    ids = embedder.tokenizer(TEXTS)["input_ids"]
    outputs = model(input_ids=ids, pixel_values=torch.zeros(1, 3, 32, 32))
    assert torch.allclose(embedder(TEXTS), outputs.text_embeds, atol=1e-5)
    image = FrozenClipImageEmbedder("ViT-L/14", weights=tmp_path, sizes=SMALL)
    rows = image.model(torch.zeros(1, 3, 32, 32))
    assert torch.allclose(rows / rows.norm(), outputs.image_embeds, atol=1e-5)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_the_file_of_openais_package_is_found_in_its_cache(state, file, tmp_path):
    """It is a TorchScript program, of which only the tensors are taken."""

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            model = WholeModel()
            model.load_state_dict(state)
            for name, child in model.named_children():
                setattr(self, name, child)
            for name, value in model.named_parameters(recurse=False):
                setattr(self, name, value)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    (tmp_path / "clip").mkdir()
    holder = torch.jit.trace(Holder(), torch.zeros(1))
    torch.jit.save(holder, str(tmp_path / "clip" / "ViT-L-14.pt"))
    found = FrozenCLIPTextEmbedder(sizes=SMALL)
    assert torch.equal(found(TEXTS), FrozenCLIPTextEmbedder(weights=file, sizes=SMALL)(TEXTS))


def test_without_weights_it_says_what_to_do(tmp_path):
    for options in ({}, {"weights": tmp_path / "nowhere"}):
        with pytest.raises(UserError, match="weights of CLIP ViT-L/14.*set weights") as caught:
            FrozenCLIPTextEmbedder(sizes=SMALL, **options)
        assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(file):
    with pytest.raises(UserError, match="does not hold CLIP ViT-L/14: .* of another shape"):
        FrozenCLIPTextEmbedder(weights=file, sizes={**SMALL, "embed_dim": 25})


def test_models_that_openai_did_not_publish_are_refused():
    with pytest.raises(UserError, match="ViT-L/14, ViT-B/32, ViT-B/16"):
        FrozenCLIPTextEmbedder(version="ViT-H/14")


def test_a_checkpoint_fills_them_when_they_are_built_on_the_meta_device():
    with torch.device("meta"):
        text, image = FrozenCLIPTextEmbedder(), FrozenClipImageEmbedder("ViT-L/14")
    assert all(p.is_meta for module in (text, image) for p in module.parameters())
    assert not any(b.is_meta for b in image.buffers()) and not image.state_dict().keys() & {"mean"}
    assert clip_sizes("ViT-L-14").embed_dim == text.model.text_projection.shape[1]
