"""Number a model's layers as cloneofsimo's files do, which name no layer but only count them.

The count goes through diffusers' modules in the order in which their constructors made them: the
UNet's way down, its way up, its middle; then the queries, keys, values and output of an attention.
A text encoder's attention begins with the keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor

from ldm.adapters.lora.dialects import Group
from ldm.adapters.lora.places import Place, Places

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT = ("k_proj", "v_proj", "q_proj", "out_proj")
_GEGLU = "ff.net.0.proj"
_FIRST, _SECOND = ([f"{name}.{end}" for end in _ATTENTION] for name in ("attn1", "attn2"))
# Its releases replaced the gated layer or did not, and diffusers' had it before or after.
_BLOCKS = ([*_FIRST, _GEGLU, *_SECOND], [*_FIRST, *_SECOND, _GEGLU], [*_FIRST, *_SECOND])
_STEM = re.compile(r"(unet|text_encoder|list):(\d{1,6})")


def is_numbered(stem: str) -> bool:
    """Return whether a file's name of a layer is a number."""
    return _STEM.fullmatch(stem) is not None


def of_list(content: Sequence[Tensor]) -> dict[str, Tensor]:
    """Name the tensors of the oldest file, a list: up, down, up, down, ..."""
    return {f"list:{i // 2}:{('up', 'down')[i % 2]}": value for i, value in enumerate(content)}


def number(places: Places, groups: Mapping[str, Group]) -> dict[str, Place]:
    """Return the place of every numbered layer of a file.

    Args:
        places: The model's.
        groups: The file's layers and their tensors.

    Returns:
        Nothing for layers whose count or shapes are not the model's.
    """
    found: dict[str, Place] = {}
    for prefix in ("unet", "text_encoder", "list"):
        stems = {stem: groups[stem] for stem in groups if stem.startswith(f"{prefix}:")}
        stems = {stem: group for stem, group in stems.items() if is_numbered(stem)}
        ordered = dict(sorted(stems.items(), key=lambda item: int(item[0].rpartition(":")[2])))
        for order in _orders(places, prefix) if ordered else ():
            if len(order) == len(ordered) and _fit(order, ordered):
                found |= dict(zip(ordered, order, strict=True))
                break
    return found


def _orders(places: Places, prefix: str) -> Iterator[list[Place]]:
    if prefix != "text_encoder":
        yield from (_unet_order(places, block) for block in _BLOCKS)
    if prefix != "unet":
        yield _text_order(places)


def _unet_order(places: Places, names: Sequence[str]) -> list[Place]:
    unet = {place.name: place for place, *_ in places.unet}
    blocks = {name.rpartition("attn1.to_q")[0] for name in unet if name.endswith("attn1.to_q")}
    ways = ("down_blocks", "up_blocks", "mid_block")
    ordered = sorted(blocks, key=lambda name: (ways.index(name.split(".")[0]), _numbers(name)))
    wanted = [block + name for block in ordered for name in names]
    return [unet[name] for name in wanted if name in unet]


def _text_order(places: Places) -> list[Place]:
    text = {place.name: place for place, *_ in places.text}
    layers = [name.removesuffix("q_proj") for name in text if name.endswith(".q_proj")]
    return [text[layer + end] for layer in sorted(layers, key=_numbers) for end in _TEXT]


def _numbers(name: str) -> list[int]:
    return [int(part) for part in name.split(".") if part.isdecimal()]


def _fit(order: Sequence[Place], groups: Mapping[str, Group]) -> bool:
    for place, group in zip(order, groups.values(), strict=True):
        up, down = group.get("up"), group.get("down")
        if up is None or down is None or up.ndim < 2 or down.ndim < 2:
            return False
        if (up.shape[0], down.shape[1]) != place.shape[:2]:
            return False
    return True
