"""How far it is from txt2img's main to the mathematics, and what a picture imports on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import structure

ROOT = Path(__file__).resolve().parents[1]
# What drawing from text has no use for.
UNUSED = (
    "ldm/offload/",
    "ldm/training/",
    "ldm/data/",
    "ldm/retrieval/",
    "ldm/evaluation/",
    "ldm/modules/losses/",
    "ldm/modules/image_degradation/",
    "ldm/models/tiling/",
    "ldm/process/weighting.py",
    "ldm/process/loss.py",
    "ldm/process/density.py",
    "ldm/pipelines/staging.py",
    "ldm/pipelines/precision.py",
    "ldm/checkpoint/export.py",
)
# Libraries that one picture does without: each would be a good part of a second, or several.
HEAVY = (
    *("pytorch_lightning", "transformers", "diffusers", "open_clip", "gradio", "ftfy"),
    *("torchvision", "kornia", "cv2", "scipy", "pandas", "matplotlib", "sympy", "einops.layers"),
    *("torch._dynamo", "torch._inductor", "torch.onnx", "torch.utils.tensorboard"),
    *("safetensors.torch", "requests", "huggingface_hub", "skimage"),
)
# Of the diffusers folder only what tells whether a path is one.
TRANSLATION = "ldm/checkpoint/diffusers/"
USED = (f"{TRANSLATION}__init__.py", f"{TRANSLATION}json_files.py")
# Python imports the package when ``drawn_by`` asks where a file in it is.
USED += ("ldm/models/tiling/__init__.py",)


@pytest.fixture(scope="module")
def seen():
    return structure.measure(ROOT)


def test_a_picture_imports_no_library_that_it_does_without(seen):
    loaded = {*seen["modules"]}
    assert {"torch", "omegaconf"} <= loaded
    assert not loaded & {*HEAVY}


@pytest.mark.parametrize(
    ("place", "calls", "files"), [("token embedding", 12, 7), ("UNet attention", 22, 14)]
)
def test_a_prompt_passes_few_calls_and_files_on_its_way(seen, place, calls, files):
    chain = seen["found"][place]
    shown = "\n".join(f"{file}: {name}" for file, name in chain)
    assert chain[0] == ["scripts/txt2img.py", "main"]
    assert len(chain) <= calls and len({file for file, _ in chain}) <= files, shown


def test_text_to_image_imports_nothing_that_it_has_no_use_for(seen):
    imported = [name for name in seen["imported"] if name not in USED]
    assert not [name for name in imported if name.startswith((*UNUSED, TRANSLATION))]


def test_a_picture_imports_a_hundred_and_forty_nine_files_of_the_project_at_most(seen):
    assert len(seen["imported"]) <= 149
