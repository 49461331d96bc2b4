"""Tags in prompts that name files, such as ``<lora:style:0.8>``: taken out before encoding.

Imports no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass

from ldm.errors import UserError
from ldm.legible import quoted

LORAS = frozenset({"lora", "lyco"})
"""Kinds of tags that name a LoRA; in no syntax are they words."""
_TAG = re.compile(r"<(\w+):([^<>]+)>")


@dataclass(frozen=True)
class Tag:
    """What a tag asks for.

    Attributes:
        kind: ``lora``, ``lyco``, ``hypernet``, ... as it is written, in lower case.
        name: Of the file, as it is written.
        text_scale: How strongly it acts in the text encoder.
        unet_scale: How strongly it acts in the UNet.
        written: The whole tag.
    """

    kind: str
    name: str
    text_scale: float
    unet_scale: float
    written: str


def split_tags(text: str, kinds: Collection[str] | None = None) -> tuple[str, list[Tag]]:
    """Take the tags out of a prompt.

    Args:
        text: The prompt.
        kinds: Of the tags that are taken; others stay. None is all.

    Returns:
        The text without them, white space around them as it was, and the tags in their order.

    Raises:
        UserError: A tag has no name, or a scale that is no number.

    Example:
        >>> text, tags = split_tags("a cat<lora:ink:0.8> <lora:hat:0.5:1>")
        >>> text, [(tag.name, tag.text_scale, tag.unet_scale) for tag in tags]
        ('a cat ', [('ink', 0.8, 0.8), ('hat', 0.5, 1.0)])
    """
    found = [m for m in _TAG.finditer(text) if kinds is None or m[1].lower() in kinds]
    for match in reversed(found):
        text = text[: match.start()] + text[match.end() :]
    return text, [_tag(match) for match in found]


def without_loras(text: str) -> str:
    """Return a prompt as it is encoded where nothing else in it is grammar."""
    return _TAG.sub(lambda tag: "" if tag[1].lower() in LORAS else tag[0], text)


def written_loras(text: str) -> list[str]:
    """Return the tags of LoRAs in a prompt as they are written, each once, readable or not."""
    return list(dict.fromkeys(m[0] for m in _TAG.finditer(text) if m[1].lower() in LORAS))


def _tag(match: re.Match) -> Tag:
    """Read the web UI's ``name:te:unet``, where scales may also be named: ``te=0.5``."""
    written, kind = match[0], match[1].lower()
    name, *rest = match[2].split(":")
    if not name.strip():
        raise UserError(
            f"the tag {quoted(written)} in a prompt names no file; expected a name, such as "
            "<lora:style:0.8>"
        )
    named = dict(each.split("=", 1) for each in rest if "=" in each)
    placed = [each for each in rest if "=" not in each]
    if named.keys() - {"te", "unet"} or len(placed) > 2:
        raise UserError(
            f"the tag {quoted(written)} in a prompt has more than is known here; expected "
            "<lora:name:scale> or <lora:name:text scale:UNet scale>"
        )
    text_scale = _scale(named.get("te", placed[0] if placed else "1"), written)
    unet = named.get("unet", placed[1] if len(placed) > 1 else None)
    unet_scale = text_scale if unet is None else _scale(unet, written)
    return Tag(kind, name.strip(), text_scale, unet_scale, written)


def _scale(text: str, written: str) -> float:
    try:
        scale = float(text)
    except ValueError:
        scale = math.nan
    if not math.isfinite(scale):
        raise UserError(
            f"the scale {quoted(text)} of {quoted(written)} in a prompt is no number; expected one "
            "such as <lora:style:0.8>"
        )
    return scale
