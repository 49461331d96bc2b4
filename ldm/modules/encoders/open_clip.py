"""Stable Diffusion 2's text encoder: open_clip's text tower under its own names.

Shapes: B batch, L tokens (77), D width of the states.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.modules.encoders.base import AbstractEncoder, as_batch, freeze, place
from ldm.modules.encoders.clip_towers import CLIPSizes, CLIPTextTower, TowerSizes, clip_sizes
from ldm.modules.encoders.open_clip_tokenizer import OpenCLIPTokenizer

LAYERS = ("last", "penultimate")


class FrozenOpenCLIPEmbedder(AbstractEncoder):
    """A CLIP text tower as a conditioner, built from its sizes and filled from a checkpoint.

    Nothing is downloaded: the weights are random until a checkpoint fills
    ``cond_stage_model.model.*``. The image tower, which no conditioning uses, is not built.

    Args:
        arch: open_clip's name of the architecture; Stable Diffusion 2 uses ``ViT-H-14``.
        version: Kept for SD 2, where it names weights to download.
        device: Where to put the weights; None leaves that to the caller, and so does building on
            the meta device. Tokens always follow the weights.
        max_length: Tokens per prompt L, start and end included.
        freeze: Stop the gradients and stay in evaluation mode.
        layer: Block whose states are used, ``last`` or ``penultimate`` (SD 2), before the final
            norm.
        text_config: Sizes of the text tower that differ from the architecture's: ``width``,
            ``heads``, ``layers``, ``mlp``, ``embed_dim``, ``context_length``, ``vocab_size``.

    Raises:
        UserError: An architecture, layer or size is unknown, or sizes do not go together.
    """

    def __init__(
        self,
        arch: str = "ViT-H-14",
        version: str = "laion2b_s32b_b79k",  # noqa: ARG002 - kept for SD 2
        device: str | torch.device | None = None,
        max_length: int = 77,
        freeze: bool = True,
        layer: str = "last",
        text_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if layer not in LAYERS:
            raise UserError(f"layer {layer!r} given; expected one of {', '.join(LAYERS)}")
        sizes = resized(clip_sizes(arch), text_config)
        if max_length > sizes.context_length:
            raise UserError(
                f"max_length is {max_length}; the text model has {sizes.context_length} "
                "positions; lower max_length"
            )
        self.max_length, self.layer = max_length, layer
        self.tokenizer = OpenCLIPTokenizer(max_length)
        self.model = CLIPTextTower(sizes)
        place(self.model, device)
        if freeze:
            self.freeze()

    def freeze(self) -> None:
        """Put the text model in evaluation mode and stop its gradients."""
        freeze(self.model)

    def forward(self, text: str | Sequence[str]) -> Tensor:
        """Encode prompts.

        Args:
            text: B prompts, or one prompt as a batch of one. Prompts are cut to ``max_length``
                tokens; ``tokenizer.truncated`` returns the rest.

        Returns:
            States after the final norm, (B, L, D), in the weights' dtype and device.
        """
        skipped = LAYERS.index(self.layer)
        return self.model(self.tokens(text), skip_last=skipped)

    def tokens(self, text: str | Sequence[str]) -> Tensor:
        """Return the token ids (B, L) of prompts, padded with 0, on the weights' device."""
        rows = self.tokenizer(as_batch(text), max_length=self.max_length)["input_ids"]
        return rows.to(self.model.positional_embedding.device)

    def encode(self, text: str | Sequence[str]) -> Tensor:
        """Encode prompts; see ``forward``."""
        return self(text)

    @property
    def blocks(self) -> int:
        """How many blocks lie before the states."""
        return len(self.model.transformer.resblocks) - LAYERS.index(self.layer)

    def encode_ids(self, ids: Tensor, skip_last: int = 0, mask: Tensor | None = None) -> Tensor:
        """Encode rows of token ids.

        Args:
            ids: (B, L), on any device, with start, end and padding in them.
            skip_last: Blocks to leave out at the end, besides those that ``layer`` leaves out.
            mask: (B, L) bool: which tokens may be looked at; None is all.

        Returns:
            States after the final norm, (B, L, D).
        """
        device = self.model.positional_embedding.device
        skipped = LAYERS.index(self.layer) + skip_last
        return self.model(ids.to(device), skipped, None if mask is None else mask.to(device))


def resized(sizes: CLIPSizes, changes: Mapping[str, Any] | None) -> CLIPSizes:
    """Return sizes with changes to the text tower, or to what both towers share.

    Args:
        sizes: The sizes of an architecture.
        changes: Names as in ``TowerSizes`` and ``CLIPSizes``; None changes nothing.

    Raises:
        UserError: Neither class has such a name, or sizes do not go together.
    """
    changes = dict(changes or {})
    tower = {f.name for f in fields(TowerSizes)}
    shared = {"embed_dim", "context_length", "vocab_size", "activation"}
    for name in changes:
        if name not in tower | shared:
            near = difflib.get_close_matches(name, tower | shared, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(tower | shared))
            raise UserError(f"text_config has no {name!r}; it takes {known}{hint}")
    text = replace(sizes.text, **{k: v for k, v in changes.items() if k in tower})
    return replace(sizes, text=text, **{k: v for k, v in changes.items() if k in shared})
