"""Folders of adapters of random weights for the tiny model, named as users name them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from embedding_files import vectors, write_a1111
from PIL import Image
from safetensors.torch import save_file


def write_shelves(folder: Path, model: torch.nn.Module) -> Path:
    """Write ``models/lora``, ``models/embeddings``, ``models/controlnet`` and two pictures.

    LoRAs are ``ink`` and ``styles/hat``, embeddings ``sunny`` and ``rainy``, a ControlNet ``net``.
    """
    for name in ("lora/styles", "embeddings", "controlnet"):
        (folder / "models" / name).mkdir(parents=True)
    write_random_lora(folder / "models/lora/ink.safetensors", model, seed=1)
    write_random_lora(folder / "models/lora/styles/hat.safetensors", model, seed=2)
    write_a1111(folder / "models/embeddings/sunny.pt", 3 * vectors(2, seed=3))
    write_a1111(folder / "models/embeddings/rainy.pt", 3 * vectors(1, seed=4))
    save_file(random_control(model), folder / "models/controlnet/net.safetensors")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    pixels[6:18, 4:12] = 255
    Image.fromarray(pixels).save(folder / "photo.png")
    Image.fromarray(pixels[::-1] // 3).save(folder / "other.png")
    return folder


def write_random_lora(path: Path, model: torch.nn.Module, seed: int) -> Path:
    from ldm.adapters.lora import new_lora, write_lora

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        lora = new_lora(model, rank=2)
        for parameter in lora.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return write_lora(lora, path)


def random_control(model: torch.nn.Module, seed: int = 5) -> dict[str, torch.Tensor]:
    from ldm.adapters.handle import require_unet
    from ldm.modules.diffusionmodules.control_net import control_net_like

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = control_net_like(require_unet(model), 4, 3)
        for parameter in net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.1)
    return {f"control_model.{name}": value for name, value in net.state_dict().items()}
