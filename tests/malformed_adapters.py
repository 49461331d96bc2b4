"""Adapter files with something wrong, by kind: each a function that writes one and returns it."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from adapter_shelves import random_control
from ip_files import base_state, write_flat
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import save_file

Writer = Callable[[Path], Path]
LAYER = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_q"
WIDTH, RANK = 64, 2  # of the tiny model's layer of that name


def pair(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """A good LoRA of one layer, with entries changed, or left out where None."""
    entries = {
        "lora_down.weight": torch.full((RANK, WIDTH), 0.1),
        "lora_up.weight": torch.full((WIDTH, RANK), 0.1),
        "alpha": torch.tensor(1.0),
    }
    entries |= {name.replace("__", "."): value for name, value in changes.items()}
    return {f"{LAYER}.{name}": value for name, value in entries.items() if value is not None}


def saved(tensors: dict[str, torch.Tensor]) -> Writer:
    def write(path: Path) -> Path:
        save_file(tensors, path.with_suffix(".safetensors"))
        return path.with_suffix(".safetensors")

    return write


def of_bytes(content: bytes, ending: str = ".safetensors") -> Writer:
    def write(path: Path) -> Path:
        path.with_suffix(ending).write_bytes(content)
        return path.with_suffix(ending)

    return write


def cut(writer: Writer, share: float = 0.5) -> Writer:
    """The file that another writer writes, without its end."""

    def write(path: Path) -> Path:
        whole = writer(path)
        content = whole.read_bytes()
        whole.write_bytes(content[: int(len(content) * share)])
        return whole

    return write


def torched(content: object) -> Writer:
    def write(path: Path) -> Path:
        torch.save(content, path.with_suffix(".pt"))
        return path.with_suffix(".pt")

    return write


class Evil:
    """Runs a command when an ordinary unpickler meets it."""

    def __reduce__(self):
        return os.system, ("touch was_run",)


def png(text: str | None) -> Writer:
    def write(path: Path) -> Path:
        info = PngInfo()
        if text is not None:
            info.add_text("sd-ti-embedding", text)
        Image.new("RGB", (16, 16)).save(path.with_suffix(".png"), pnginfo=info)
        return path.with_suffix(".png")

    return write


def header(fields: object) -> bytes:
    content = json.dumps(fields).encode()
    return struct.pack("<Q", len(content)) + content


BROKEN: dict[str, Writer] = {
    "empty": of_bytes(b""),
    "text": of_bytes(b"a web page that says 404, saved as a file"),
    "a huge header": of_bytes(struct.pack("<Q", 2**40) + b"{}"),
    "no JSON": of_bytes(struct.pack("<Q", 8) + b"notjson!"),
    "offsets beyond the end": of_bytes(
        header({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
    ),
    "a truncated file": cut(saved(pair())),
    "an evil pickle": torched({"state_dict": Evil()}),
    "an evil old pickle": of_bytes(pickle.dumps({"x": Evil()}), ".pt"),
    "a truncated pickle": cut(torched({"x": torch.zeros(64)})),
    "no tensors": torched({"note": "nothing"}),
    "unknown names": saved({"mystery.weight": torch.zeros(4, 4)}),
}
LORAS: dict[str, Writer] = {
    "ranks that disagree": saved(pair(lora_up__weight=torch.zeros(WIDTH, RANK + 1))),
    "NaN": saved(pair(lora_up__weight=torch.full((WIDTH, RANK), torch.nan))),
    "infinite": saved(pair(lora_down__weight=torch.full((RANK, WIDTH), torch.inf))),
    "no up": saved(pair(lora_up__weight=None)),
    "no down": saved(pair(lora_down__weight=None)),
    "an alpha of two numbers": saved(pair(alpha=torch.ones(2))),
    "an alpha that is NaN": saved(pair(alpha=torch.tensor(torch.nan))),
    "of rank 0": saved(
        pair(lora_down__weight=torch.zeros(0, WIDTH), lora_up__weight=torch.zeros(WIDTH, 0))
    ),
    "as wide as v1": saved(pair(lora_down__weight=torch.zeros(RANK, 320))),
    "of SDXL": saved(
        {
            f"lora_te2_text_model_encoder_layers_0_mlp_fc1.{n}": v
            for n, v in (
                ("lora_down.weight", torch.zeros(2, 1280)),
                ("lora_up.weight", torch.zeros(5120, 2)),
            )
        }
    ),
    "a LoHa without its second half": saved({f"{LAYER}.hada_w1_a": torch.zeros(WIDTH, 2)}),
    "an embedding": torched({"string_to_param": {"*": torch.zeros(1, 32)}}),
}
EMBEDDINGS: dict[str, Writer] = {
    "as wide as v1": torched({"string_to_param": {"*": torch.zeros(2, 768)}}),
    "of SDXL": saved({"clip_l": torch.zeros(2, 768), "clip_g": torch.zeros(2, 1280)}),
    "NaN": saved({"emb_params": torch.full((1, 32), torch.nan)}),
    "no vectors": saved({"emb_params": torch.zeros(0, 32)}),
    "three sides": saved({"emb_params": torch.zeros(1, 1, 32)}),
    "longer than a row": saved({"emb_params": torch.zeros(100, 32)}),
    "a picture without one": png(None),
    "a picture with nonsense": png("!!! no base64 !!!"),
    "a picture with another JSON": png("eyJhIjogMX0="),
}
IMAGES: dict[str, Writer] = {
    "IP-Adapter: a FaceID": saved(
        base_state() | {"ip_adapter.0.to_q_lora.down.weight": torch.zeros(2, 64)}
    ),
    "IP-Adapter: as wide as v1": lambda path: write_flat(
        path.with_suffix(".safetensors"), base_state(context=768)
    ),
    "IP-Adapter: no projection": saved({"ip_adapter.1.to_k_ip.weight": torch.zeros(64, 32)}),
}


def controls(model: torch.nn.Module) -> dict[str, Writer]:
    """Files of a model's ControlNet with something wrong."""
    good = random_control(model)
    first = "control_model.input_blocks.0.0.weight"
    hint = "control_model.input_hint_block.0.weight"
    return {
        "NaN": saved(good | {first: torch.full_like(good[first], torch.nan)}),
        "a key missing": saved({k: v for k, v in good.items() if k != hint}),
        "another width": saved(good | {first: torch.zeros(320, 4, 3, 3)}),
        "the base alone": saved({"model.diffusion_model.input_blocks.0.0.weight": good[first]}),
        "a T2I-Adapter cut short": saved({"body.0.block1.weight": torch.zeros(4, 4, 3, 3)}),
    }


def every(model: torch.nn.Module) -> Iterator[tuple[str, str, Writer]]:
    """Yield (flag, what is wrong, writer) of all."""
    for flag, table in (
        ("--lora", BROKEN | LORAS),
        ("--embedding", BROKEN | EMBEDDINGS),
        ("--control hint", BROKEN | controls(model)),
        ("--control ip", IMAGES),
    ):
        yield from ((flag, name, writer) for name, writer in table.items())
