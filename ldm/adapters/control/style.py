"""The style adapter: a picture's style as further tokens behind the prompt's.

The empty prompt is made as long by repeating its own last tokens, as the original does.
Shapes: b rows of a call, n pictures, L text tokens, D their width, P CLIP's tokens, W their width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ldm.adapters.control.drawn import ASIDE, Options
from ldm.adapters.control.files import Found
from ldm.adapters.control.filling import check_base, fill
from ldm.adapters.control.hints import Picture, hint_tensor
from ldm.adapters.handle import Handle, Scale, require_unet
from ldm.adapters.ip_adapter.encoders import ClipEncoder
from ldm.adapters.report import Report
from ldm.errors import UserError
from ldm.modules.diffusionmodules.style_adapter import StyleAdapter

_BLOCK = re.compile(r"transformer_layes\.\d+\.ln_1\.weight")


def read_style(found: Found, model: nn.Module) -> tuple[StyleAdapter, Report]:
    """Build a file's style adapter.

    Raises:
        UserError: It is made for another model.
    """
    report = Report(found.path, found.kind, found.form, notes=list(found.notes))
    asked, proj = found.tensors["style_embedding"], found.tensors.get("proj")
    if asked.ndim != 3 or proj is None or proj.ndim != 2:
        raise UserError(
            f"{found.kind} {found.name} has no style_embedding (1, tokens, width) with a proj "
            "(width, context width); expected the original's weights; download the file again"
        )
    check_base(proj.shape[1], found, model, report)
    blocks = sum(bool(_BLOCK.fullmatch(name)) for name in found.tensors)
    with torch.device("meta"):
        network = StyleAdapter(asked.shape[2], proj.shape[1], blocks, asked.shape[1])
    fill(network, found.tensors, found, report)
    return network, report


@torch.no_grad()
def style_tokens(network: StyleAdapter, image: Picture, clip: str | Path) -> Tensor:
    """Return a picture's tokens (n, tokens, D).

    Args:
        network: The adapter.
        image: The picture.
        clip: The folder of CLIP ViT-L/14.

    Raises:
        UserError: The folder is none, or of another network.
    """
    encoder = ClipEncoder(clip)
    width = encoder.vision.config.hidden_size
    expected = network.style_embedding.shape[2]
    if width != expected:
        raise UserError(
            f"image encoder {str(clip)!r} has states of width {width}; the style adapter expects "
            f"{expected}; give the folder of openai/clip-vit-large-patch14"
        )
    pixels = torch.cat([encoder.prepare(each[None]) for each in _as_bytes(image)])
    states = encoder.vision(pixel_values=pixels).last_hidden_state  # (n, P, W)
    return network.float()(states)


def _as_bytes(image: Picture) -> Sequence[np.ndarray]:
    """Return pictures as uint8 (H, W, 3); a PIL picture's bytes as they are."""
    if isinstance(image, Image.Image):
        return [np.asarray(image.convert("RGB"))]
    return (hint_tensor(image) * 255).round().to(torch.uint8).movedim(1, -1).numpy()


class StyleHandle(Handle):
    """A style adapter on a model.

    Args:
        model: The hub.
        tokens: Of the picture (n, tokens, D).
        scale: What the tokens are multiplied by; at 0 there are none.
        options: When.
    """

    def __init__(self, model: nn.Module, tokens: Tensor, scale: Scale, options: Options) -> None:
        super().__init__(model, scale)
        self._tokens, self._options = tokens, options
        self._hook = require_unet(model).register_forward_pre_hook(self._extend, with_kwargs=True)

    def _release(self) -> None:
        self._hook.remove()

    def _extend(
        self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Put the tokens behind the context that the UNet is called with."""
        strength = self.strength()
        if not strength or ASIDE.get() or not self._options.cover(self.follower.moment):
            return args, kwargs
        named = "context" in kwargs
        context = kwargs["context"] if named else args[2]
        longer = (
            self._longer(context, strength)
            if isinstance(context, Tensor)
            else [self._longer(each, strength) for each in context]
        )
        if named:
            return args, {**kwargs, "context": longer}
        return (*args[:2], longer, *args[3:]), kwargs

    def _longer(self, context: Tensor, strength: float) -> Tensor:
        """Return a context (b, L, D) with the tokens behind it: (b, L + tokens, D)."""
        rows = self.follower.rows(len(context))
        tokens = (self._tokens * strength).to(context)
        added = context[:, -tokens.shape[1] :].clone()
        for number, row in enumerate(rows):
            if row.part != "uncond":
                added[number] = tokens[0 if len(tokens) == 1 else row.picture]
        return torch.cat([context, added], dim=1)
