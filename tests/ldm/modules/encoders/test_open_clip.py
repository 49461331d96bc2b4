"""Stable Diffusion 2's text encoder, beside open_clip's own."""

from __future__ import annotations

import socket

import pytest
import torch
from golden.fill import official_state

from ldm.checkpoint.load import load_weights
from ldm.errors import UserError
from ldm.modules.encoders.clip_towers import QUICK, clip_sizes
from ldm.modules.encoders.modules import FrozenOpenCLIPEmbedder
from ldm.modules.encoders.open_clip_tokenizer import OpenCLIPTokenizer

SMALL = {"width": 32, "heads": 4, "layers": 3, "mlp": 128, "embed_dim": 24}
PROMPTS = ["a photograph of an astronaut riding a horse", "", "a fantasy landscape " * 40]


def build(**options) -> FrozenOpenCLIPEmbedder:
    embedder = FrozenOpenCLIPEmbedder(text_config=SMALL, **options)
    embedder.load_state_dict(official_state(embedder, prefix="cond_stage_model."))
    return embedder


def their_model(quick_gelu: bool = False):
    """open_clip's model with the same text tower and a picture tower of no interest."""
    open_clip = pytest.importorskip("open_clip")
    from open_clip.model import CLIP

    del open_clip
    return CLIP(
        embed_dim=24,
        vision_cfg={"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        text_cfg={"width": 32, "heads": 4, "layers": 3},
        quick_gelu=quick_gelu,
    ).eval()


@torch.no_grad()
def their_states(model, tokens, layer):
    """Stable Diffusion 2's way through open_clip's modules."""
    x = model.token_embedding(tokens) + model.positional_embedding
    blocks = model.transformer.resblocks
    for block in blocks[: len(blocks) - (layer == "penultimate")]:
        x = block(x, attn_mask=model.attn_mask)
    return model.ln_final(x)


@pytest.mark.parametrize("arch", ["ViT-H-14", f"ViT-H-14{QUICK}"])
@pytest.mark.parametrize("layer", ["last", "penultimate"])
@torch.no_grad()
def test_states_equal_open_clips(arch, layer):
    open_clip = pytest.importorskip("open_clip")
    ours, theirs = build(arch=arch, layer=layer), their_model(quick_gelu=arch.endswith(QUICK))
    theirs.load_state_dict(ours.model.state_dict(), strict=False)
    expected = their_states(theirs, open_clip.tokenize(PROMPTS), layer)
    assert torch.allclose(ours(PROMPTS), expected, atol=1e-5)


@torch.no_grad()
def test_projected_rows_equal_open_clips():
    open_clip = pytest.importorskip("open_clip")
    ours, theirs = build(), their_model()
    theirs.load_state_dict(ours.model.state_dict(), strict=False)
    tokens = open_clip.tokenize(PROMPTS)
    assert torch.allclose(ours.model.encode(tokens), theirs.encode_text(tokens), atol=1e-5)


def test_keys_and_shapes_are_those_of_open_clips_text_tower():
    theirs = their_model()
    expected = {
        name: value.shape
        for name, value in theirs.state_dict().items()
        if not name.startswith("visual.")
    }
    assert {name: v.shape for name, v in build().model.state_dict().items()} == expected


def test_architectures_have_open_clips_sizes():
    open_clip = pytest.importorskip("open_clip")
    for arch in ("ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"):
        sizes, theirs = clip_sizes(arch), open_clip.get_model_config(arch)
        text, image = theirs["text_cfg"], theirs["vision_cfg"]
        assert sizes.embed_dim == theirs["embed_dim"]
        found = (sizes.text.width, sizes.text.heads, sizes.text.layers, sizes.context_length)
        assert found == tuple(text[n] for n in ("width", "heads", "layers", "context_length"))
        found = (sizes.image.width, sizes.image.layers, sizes.patch_size, sizes.image_size)
        assert found == tuple(image[n] for n in ("width", "layers", "patch_size", "image_size"))
        assert sizes.image.width // sizes.image.heads == image.get("head_width", 64)
        assert sizes.image.mlp == int(image["width"] * image.get("mlp_ratio", 4))


def test_it_has_the_shapes_of_a_v2_checkpoint_and_is_built_without_memory():
    with torch.device("meta"):
        embedder = FrozenOpenCLIPEmbedder(freeze=True, layer="penultimate")
    shapes = {name: tuple(value.shape) for name, value in embedder.state_dict().items()}
    assert len(shapes) == 6 + 24 * 12
    assert shapes["model.token_embedding.weight"] == (49408, 1024)
    assert shapes["model.transformer.resblocks.23.attn.in_proj_weight"] == (3072, 1024)
    assert shapes["model.text_projection"] == (1024, 1024)
    assert shapes["model.logit_scale"] == ()
    assert not list(embedder.buffers())


def test_a_mask_in_the_file_is_accepted_and_not_needed():
    embedder = build()
    state = embedder.state_dict()
    assert not any("mask" in name for name in state)
    state["model.attn_mask"] = torch.zeros(77, 77)
    embedder.load_state_dict(state, strict=True)
    hub = torch.nn.ModuleDict({"cond_stage_model": embedder})
    mask = "cond_stage_model.model.attn_mask"
    report = load_weights(hub, {**hub.state_dict(), mask: torch.zeros(77, 77)})
    assert report.ballast == [mask] and not report.unexpected


def test_frozen_by_default_and_trainable_where_asked():
    frozen, trainable = build(), build(freeze=False)
    assert not any(p.requires_grad for p in frozen.parameters()) and not frozen.model.training
    assert all(p.requires_grad for p in trainable.parameters())


def test_later_words_do_not_change_earlier_states():
    embedder = build()
    short, longer = embedder(["a cat"]), embedder(["a cat on a mat"])
    assert torch.allclose(short[:, :3], longer[:, :3], atol=1e-6)
    assert not torch.allclose(short[:, 3], longer[:, 3], atol=1e-3)


def test_building_and_encoding_never_open_a_connection(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the text encoder tried to reach the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert build()(["a cat"]).shape == (1, 77, 32)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "third"}, "last, penultimate"),
        ({"arch": "ViT-Z-1"}, "ViT-H-14"),
        ({"max_length": 78}, "77 positions"),
        ({"text_config": {"widht": 32}}, "did you mean 'width'"),
        ({"text_config": {"width": 30}}, "divides the width"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(options, said):
    with torch.device("meta"), pytest.raises(UserError, match=said) as caught:
        FrozenOpenCLIPEmbedder(**options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "a photograph of an astronaut",
        "",
        "Tom & Jerry &amp;amp; friends' 1234",
        "ﬁne ＡＢＣ： “quoted” naïve café",
        "富士山と桜、浮世絵",
        "<start_of_text> hello <end_of_text> there",
        "<|startoftext|> hello <|endoftext|>",
        "ΣΑΣ ſ'ſ don't",
        "emoji 🐈‍⬛ and\ttabs\n",
        "word " * 200,
    ],
)
def test_prompts_are_tokenized_as_open_clip_does(text):
    open_clip = pytest.importorskip("open_clip")
    rows = OpenCLIPTokenizer()(text)["input_ids"]
    assert torch.equal(rows, open_clip.tokenize([text]))


def test_padding_is_zero_and_what_is_cut_is_told():
    tokenizer = OpenCLIPTokenizer(max_length=6)
    assert tokenizer("a cat")["input_ids"].tolist() == [[49406, 320, 2368, 49407, 0, 0]]
    assert tokenizer.truncated("a cat on a mat") == "mat"
    assert tokenizer.encode("&amp;") == tokenizer.encode("&")


@torch.no_grad()
def test_what_stands_beside_the_joined_projections_changes_them():
    model = build(layer="last")
    plain, attention = model(PROMPTS), model.model.transformer.resblocks[0].attn
    keys = model.state_dict().keys()
    attention.beside.append(lambda x, qkv: qkv + x.repeat(1, 1, 3))
    changed = model(PROMPTS)
    attention.in_proj_weight += torch.eye(x_width := attention.in_proj_weight.shape[1]).repeat(3, 1)
    attention.beside.clear()
    assert torch.allclose(model(PROMPTS), changed, atol=1e-5)
    attention.in_proj_weight -= torch.eye(x_width).repeat(3, 1)
    assert not torch.allclose(plain, changed, atol=1e-2)
    assert model.state_dict().keys() == keys
