"""Tell what each key of a LoRA's file is: which layer it changes, and which tensor of it it is.

kohya      lora_unet_down_blocks_0_attentions_0_..._attn1_to_q.lora_down.weight, and .alpha
peft       unet.down_blocks.0.attentions.0. ... .attn1.to_q.lora_A.weight
diffusers  ... .attn1.to_q.lora.down.weight, text encoders ... .lora_linear_layer.down.weight
oldest     ... .attn1.processor.to_q_lora.down.weight
LyCORIS    kohya's layers with .hada_w1_a, .lokr_w1, .diff, .dora_scale, ...
numbered   unet:0:up, unet:0:down (cloneofsimo)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from torch import Tensor

Group = dict[str, Tensor]

_PAIRS = {
    ".lora_down.weight": ("down", "kohya"),
    ".lora_up.weight": ("up", "kohya"),
    ".lora_mid.weight": ("mid", "kohya"),
    ".lora.down.weight": ("down", "diffusers (before peft)"),
    ".lora.up.weight": ("up", "diffusers (before peft)"),
    ".lora_linear_layer.down.weight": ("down", "diffusers (before peft)"),
    ".lora_linear_layer.up.weight": ("up", "diffusers (before peft)"),
    "_lora.down.weight": ("down", "diffusers (oldest)"),
    "_lora.up.weight": ("up", "diffusers (oldest)"),
    ":down": ("down", "cloneofsimo"),
    ":up": ("up", "cloneofsimo"),
}
_PEFT = {"lora_A": "down", "lora_B": "up", "lora_magnitude_vector": "magnitude"}
# peft puts an adapter's name after these, in what it saves by itself.
_ADAPTER = re.compile(r"(\.lora_(?:A|B|magnitude_vector))\.(?!weight$|bias$)[^.]+(?=\.weight$|$)")
_LYCORIS = {
    name: name
    for name in (
        *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
        *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"),
        *("alpha", "dora_scale", "diff", "diff_b", "on_input"),
    )
}
_LYCORIS |= {"w_norm": "diff", "b_norm": "diff_b"}
ENDS = (
    _PAIRS
    | {f".{n}{end}": (role, "peft") for n, role in _PEFT.items() for end in ("", ".weight")}
    | {f".{name}": (role, "") for name, role in _LYCORIS.items()}
)
_LENGTHS = sorted({len(end) for end in ENDS}, reverse=True)
KOHYA = ("lora_unet_", "lora_te", "lycoris_")
_COMPVIS = ("_input_blocks_", "_output_blocks_", "_middle_block_", "_time_embed_0", "_time_embed_2")


class Sorted(NamedTuple):
    """The keys of a file.

    Attributes:
        groups: Name of a layer as the file has it, to its tensors by their roles.
        keys: The same, to its keys.
        form: Whose layout it is.
        unknown: Keys of no dialect.
    """

    groups: dict[str, Group]
    keys: dict[str, dict[str, str]]
    form: str
    unknown: list[str]


def sort_keys(tensors: Mapping[str, Tensor]) -> Sorted:
    """Sort a file's tensors by the layers that they change."""
    groups: dict[str, Group] = {}
    keys: dict[str, dict[str, str]] = {}
    forms: Counter[str] = Counter()
    unknown = []
    for key, value in tensors.items():
        found = _split(key, tensors)
        if found is None or found[1] in groups.get(found[0], ()):
            unknown.append(key)
            continue
        stem, role, form = found
        groups.setdefault(stem, {})[role] = value
        keys.setdefault(stem, {})[role] = key
        forms[form] += bool(form)
    return Sorted(groups, keys, _form(groups, forms), unknown)


def _split(key: str, tensors: Mapping[str, Tensor]) -> tuple[str, str, str] | None:
    """Return the layer, the role and the layout that a key speaks of; None for none."""
    key = _ADAPTER.sub(r"\1", key)
    for length in _LENGTHS:
        stem, end = key[:-length], key[-length:]
        if stem and end in ENDS:
            return stem, *ENDS[end]
    stem = key.removesuffix(".weight")
    if stem != key and f"{stem}.on_input" in tensors:
        return stem, "ia3", ""
    return None


def _form(stems: Iterable[str], forms: Counter[str]) -> str:
    if any(stem.startswith(KOHYA) for stem in stems):
        ours = any(part in stem for stem in stems for part in _COMPVIS)
        return "kohya (CompVis's names)" if ours else "kohya"
    best = forms.most_common(1)
    return best[0][0] if best else "LyCORIS"
