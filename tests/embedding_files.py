"""Embeddings in every format that people have, written as their own programs write them."""

from __future__ import annotations

import base64
import json
import zlib
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file


def vectors(n: int = 2, width: int = 32, seed: int = 1) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def write_a1111(path: Path, values: torch.Tensor, name: str = "inside") -> Path:
    content = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": values},
        "name": name,
        "step": 500,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }
    torch.save(content, path)
    return path


def write_first(path: Path, values: torch.Tensor) -> Path:
    """Write one as the paper's own program does."""
    held = torch.nn.ParameterDict({"*": torch.nn.Parameter(values)})
    torch.save({"string_to_token": {"*": torch.tensor(265)}, "string_to_param": held}, path)
    return path


def write_diffusers(path: Path, values: torch.Tensor, word: str = "<cat-toy>") -> Path:
    if path.suffix == ".bin":
        torch.save({word: values}, path)
    else:
        save_file({word: values}, path)
    return path


def write_kohya(path: Path, values: torch.Tensor) -> Path:
    save_file({"emb_params": values}, path)
    return path


def as_json(values: torch.Tensor, name: str) -> bytes:
    tensor = {"TORCHTENSOR": values.tolist()}
    return json.dumps({"string_to_param": {"*": tensor}, "name": name}).encode()


def write_text_picture(path: Path, values: torch.Tensor, name: str = "inside") -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text("sd-ti-embedding", base64.b64encode(as_json(values, name)).decode())
    Image.new("RGB", (16, 16), (90, 90, 90)).save(path, pnginfo=info)
    return path


def _numbers():
    state = 0
    while True:
        state = (1664525 * state + 1013904223) % 2**32
        yield state % 255


def _block(halves: np.ndarray, height: int) -> np.ndarray:
    """Lay half bytes out over whole columns, with something to look at in the high halves."""
    size = -(-len(halves) // (3 * height)) * 3 * height + 3 * height
    laid = np.resize(halves, size).reshape(height, -1, 3)
    mix = np.array(list(islice(_numbers(), size)), dtype=np.uint8).reshape(laid.shape)
    return (laid ^ (mix & 15)) | 0x50


def write_pixel_picture(path: Path, values: torch.Tensor, name: str = "inside") -> Path:
    packed = np.frombuffer(zlib.compress(as_json(values, name), 9), dtype=np.uint8)
    height = 48
    gap = np.zeros((height, 1, 3), dtype=np.uint8)
    shown = np.full((height, 20, 3), 0x77, dtype=np.uint8)
    blocks = [_block(packed & 15, height), gap, shown, gap, _block(packed >> 4, height)]
    whole = np.concatenate(blocks, axis=1)
    Image.fromarray(np.pad(whole, ((3, 2), (4, 5), (0, 0)))).save(path)
    return path
