"""CLIPSeg from a folder: a tiny one of random weights, of transformers' own modules."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from ldm.errors import UserError
from ldm.masking.making import make_mask
from ldm.settings.masks import MaskOptions


def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (23, 37, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        CLIPTokenizer,
        ViTImageProcessor,
    )

    place = tmp_path_factory.mktemp("clipseg")
    letters = [*"abcdefghijklmnopqrstuvwxyz", *(f"{c}</w>" for c in "abcdefghijklmnopqrstuvwxyz")]
    names = [*letters, "<|startoftext|>", "<|endoftext|>"]
    vocabulary, merges = place / "vocab.json", place / "merges.txt"
    vocabulary.write_text(json.dumps({name: k for k, name in enumerate(names)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=16)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = CLIPSegConfig(
        text_config={
            **sizes,
            "num_hidden_layers": 2,
            "vocab_size": len(names),
            "max_position_embeddings": 16,
            "eos_token_id": len(names) - 1,
            "bos_token_id": len(names) - 2,
        },
        vision_config={**sizes, "num_hidden_layers": 4, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        reduce_dim=8,
        extract_layers=[0, 1, 2],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
        conditional_layer=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPSegForImageSegmentation(config).save_pretrained(place)
    images = ViTImageProcessor(size={"height": 32, "width": 32})
    CLIPSegProcessor(images, tokenizer).save_pretrained(place)
    return place


def sure_of(folder, words):
    """What transformers' own way makes of words: (words, h, w)."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    network = CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    inputs = CLIPSegProcessor.from_pretrained(folder)(
        text=words, images=[picture()] * len(words), padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        logits = network(**inputs).logits
    logits = logits.reshape(len(words), 1, *logits.shape[-2:])
    sized = torch.nn.functional.interpolate(logits.sigmoid(), size=(23, 37), mode="bilinear")
    return sized[:, 0].numpy()


@pytest.mark.parametrize("words", [["cat"], ["cat", "a dog"]])
def test_what_any_of_the_words_names_is_marked_as_transformers_sees_it(folder, words):
    sure = sure_of(folder, words).max(0)
    threshold = float(np.median(sure))
    given = {"words": ", ".join(words), "model": str(folder), "threshold": threshold}
    mask = make_mask(picture(), MaskOptions(kind="words", **given), device="cpu")
    assert 0.3 < (mask > 0).mean() < 0.7
    differs = (mask > 0) != (sure >= threshold)
    assert np.abs(sure[differs] - threshold).max(initial=0.0) < 1e-5


def test_a_folder_that_lacks_something_is_told_in_one_line(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    options = MaskOptions(kind="words", words="cat", model=str(tmp_path))
    tensors = load_file(tmp_path / "model.safetensors")
    gone = next(iter(tensors))
    save_file({k: v for k, v in tensors.items() if k != gone}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=f"lacks 1 of the network's tensors, such as {gone}"):
        make_mask(picture(), options)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="no CLIPSeg network"):
        make_mask(picture(), options)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match="lacks config.json"):
        make_mask(picture(), options)
