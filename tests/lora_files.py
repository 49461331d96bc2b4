"""LoRA files of every dialect, with names that are diffusers' own and random numbers."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

RANK, ALPHA = 3, 1.5
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")
OLDEST = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}

Pairs = dict[str, tuple[Tensor, Tensor]]


def pairs_of(module: nn.Module, endings: tuple[str, ...], rank: int = RANK, seed: int = 0) -> Pairs:
    """Return (down, up) for each layer of a network whose name has one of the endings."""
    generator, found = torch.Generator().manual_seed(seed), {}
    for name, layer in module.named_modules():
        if not name.endswith(endings) or not isinstance(layer, (nn.Linear, nn.Conv2d)):
            continue
        out, *rest = layer.weight.shape
        down = torch.randn(rank, *rest, generator=generator) * 0.2
        up = torch.randn(out, rank, *[1] * (len(rest) - 1), generator=generator) * 0.2
        found[name.removeprefix("text_model.")] = down, up
    return found


def kohya(unet: Pairs, text: Pairs, alpha: float | None = ALPHA) -> dict[str, Tensor]:
    """Return a file of kohya's."""
    flat = {f"lora_unet_{_flat(name)}": pair for name, pair in unet.items()}
    flat |= {f"lora_te_text_model_{_flat(name)}": pair for name, pair in text.items()}
    found = dotted(flat, "", "lora_down.weight", "lora_up.weight")
    return found | ({f"{n}.alpha": torch.tensor(alpha) for n in flat} if alpha else {})


def peft(unet: Pairs, text: Pairs) -> dict[str, Tensor]:
    """Return a file of today's diffusers, its text encoder's names as transformers 5 has them."""
    ends = "lora_A.weight", "lora_B.weight"
    return dotted(unet, "unet.", *ends) | dotted(text, "text_encoder.", *ends)


def before_peft(unet: Pairs, text: Pairs) -> dict[str, Tensor]:
    """Return a file of diffusers from 0.18 on."""
    there = dotted(unet, "unet.", "lora.down.weight", "lora.up.weight")
    ends = "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"
    return there | dotted(text, "text_encoder.text_model.", *ends)


def oldest(unet: Pairs, text: Pairs) -> dict[str, Tensor]:
    """Return a file of diffusers' attention processors."""
    found = {}
    for name, (down, up) in unet.items():
        attention, _, layer = name.removesuffix(".0").rpartition(".")
        found[f"unet.{attention}.processor.{layer}_lora.down.weight"] = down
        found[f"unet.{attention}.processor.{layer}_lora.up.weight"] = up
    for name, (down, up) in text.items():
        attention, _, layer = name.rpartition(".")
        stem = f"text_encoder.text_model.{attention}.{OLDEST[layer]}_lora"
        found |= {f"{stem}.down.weight": down, f"{stem}.up.weight": up}
    return found


def dotted(pairs: Pairs, prefix: str, down: str, up: str) -> dict[str, Tensor]:
    """Return pairs under names with these ends."""
    found = {}
    for name, (a, b) in pairs.items():
        found |= {f"{prefix}{name}.{down}": a, f"{prefix}{name}.{up}": b}
    return found


def save(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Write a file and return its path."""
    save_file({n: v.contiguous().clone() for n, v in tensors.items()}, path, metadata=metadata)
    return path


def _flat(name: str) -> str:
    return name.replace(".", "_")


def lycoris(layer: nn.Module, kind: str, rank: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Return the tensors of one of LyCORIS's kinds for a layer, by their endings.

    Args:
        layer: A linear layer or a convolution whose sides are multiples of 4.
        kind: ``loha``, ``lokr``, ``lokr-low`` (both factors of low rank), ``full``, ``ia3``,
            ``ia3-input``, ``locon``; with ``-tucker`` the first two and the last have a core.
        rank: Of the factors.
        seed: Of the numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    out, width, *kernel = layer.weight.shape
    flat = width * int(torch.tensor(kernel).prod()) if kernel else width

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    core = normal(rank, rank, *kernel)
    made = {
        "loha": {f"hada_w{n}_{s}": normal(*d) for n in (1, 2) for s, d in _sides(out, flat, rank)},
        "loha-tucker": {
            **{f"hada_w{n}_a": normal(rank, out) for n in (1, 2)},
            **{f"hada_w{n}_b": normal(rank, width) for n in (1, 2)},
            **{f"hada_t{n}": normal(rank, rank, *kernel) for n in (1, 2)},
        },
        "lokr": {"lokr_w1": normal(4, 4), "lokr_w2": normal(out // 4, width // 4, *kernel)},
        "lokr-low": {
            "lokr_w1_a": normal(4, rank),
            "lokr_w1_b": normal(rank, 4),
            "lokr_w2_a": normal(out // 4, rank),
            "lokr_w2_b": normal(rank, flat // 4),
        },
        "lokr-tucker": {
            "lokr_w1": normal(4, 4),
            "lokr_t2": core,
            "lokr_w2_a": normal(rank, out // 4),
            "lokr_w2_b": normal(rank, width // 4),
        },
        "full": {"diff": normal(*layer.weight.shape), "diff_b": normal(out)},
        "ia3": {"weight": normal(1, out, 1, 1) if kernel else normal(out), "on_input": _flag(0)},
        "ia3-input": {
            "weight": normal(1, width, 1, 1) if kernel else normal(width),
            "on_input": _flag(1),
        },
        "locon": {
            "lora_down.weight": normal(rank, width, *kernel),
            "lora_up.weight": normal(out, rank, *[1] * len(kernel)),
        },
        "locon-tucker": {
            "lora_down.weight": normal(rank, width, 1, 1),
            "lora_mid.weight": core,
            "lora_up.weight": normal(out, rank, 1, 1),
        },
    }
    return made[kind]


def _sides(out: int, flat: int, rank: int) -> list[tuple[str, tuple[int, int]]]:
    return [("a", (out, rank)), ("b", (rank, flat))]


def _flag(value: int) -> Tensor:
    return torch.tensor(value)
