"""CLIP's joint embeddings: texts and pictures as vectors that can be compared with each other.

Retrieval-augmented models are conditioned on them (arXiv:2204.11824). The weights are OpenAI's,
from this machine: see ``clip_weights``.

Shapes: B batch, E width that texts and pictures share, H W sides of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import repeat
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ldm.modules.encoders.base import AbstractEncoder, as_batch, freeze, place
from ldm.modules.encoders.clip_towers import (
    QUICK,
    CLIPImageTower,
    CLIPSizes,
    CLIPTextTower,
    TowerSizes,
    clip_sizes,
)
from ldm.modules.encoders.clip_weights import fill_tower, openai_architecture
from ldm.modules.encoders.open_clip_tokenizer import OpenCLIPTokenizer

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
"""Mean and deviation of the pictures that CLIP was trained with, in [0, 1]."""


class FrozenCLIPTextEmbedder(AbstractEncoder):
    """Embed texts with CLIP.

    Args:
        version: OpenAI's name of the model.
        device: Where to put the weights; None leaves that to the caller.
        max_length: Tokens per text, start and end included.
        n_repeat: Number of equal tokens that ``encode`` returns for a text.
        normalize: Scale each embedding to length 1.
        weights: File or folder with the model's weights; None looks in the local caches.
        sizes: Sizes that differ from the version's, by the names of ``CLIPSizes``.

    Raises:
        UserError: The version is unknown, or its weights are not on this machine.
    """

    def __init__(
        self,
        version: str = "ViT-L/14",
        device: str | torch.device | None = None,
        max_length: int = 77,
        n_repeat: int = 1,
        normalize: bool = True,
        weights: str | Path | None = None,
        sizes: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.n_repeat, self.normalize, self.max_length = n_repeat, normalize, max_length
        self.tokenizer = OpenCLIPTokenizer(max_length)
        self.model = CLIPTextTower(_sizes(version, sizes))
        fill_tower(self.model, version, weights, prefix="")
        place(self.model, device)
        freeze(self.model)

    def freeze(self) -> None:
        """Put the model in evaluation mode and stop its gradients."""
        freeze(self.model)

    def forward(self, text: str | Sequence[str]) -> Tensor:
        """Return (B, E) for B texts, of length 1 with ``normalize``."""
        tokens = self.tokenizer(as_batch(text), max_length=self.max_length)["input_ids"]
        rows = self.model.encode(tokens.to(self.model.positional_embedding.device))
        return rows / rows.norm(dim=1, keepdim=True) if self.normalize else rows

    def encode(self, text: str | Sequence[str]) -> Tensor:
        """Return (B, n_repeat, E): each text's embedding, repeated as equal tokens."""
        return repeat(self(text), "b d -> b k d", k=self.n_repeat)


class FrozenClipImageEmbedder(nn.Module):
    """Embed pictures with CLIP.

    Args:
        model: OpenAI's name of the model.
        jit: Kept for CompVis.
        device: Where to put the weights; None leaves that to the caller.
        antialias: Smooth pictures before downsampling them.
        weights: File or folder with the model's weights; None looks in the local caches.
        sizes: Sizes that differ from the model's, by the names of ``CLIPSizes``.

    Raises:
        UserError: The model is unknown, or its weights are not on this machine.
    """

    def __init__(
        self,
        model: str,
        jit: bool = False,  # noqa: ARG002 - kept for CompVis
        device: str | torch.device | None = None,
        antialias: bool = False,
        weights: str | Path | None = None,
        sizes: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.antialias = antialias
        self.model = CLIPImageTower(_sizes(model, sizes))
        fill_tower(self.model, model, weights, prefix="visual.")
        self.register_buffer("mean", torch.tensor(MEAN, device="cpu"), persistent=False)
        self.register_buffer("std", torch.tensor(STD, device="cpu"), persistent=False)
        place(self, device)
        freeze(self)

    def preprocess(self, x: Tensor) -> Tensor:
        """Resize pictures (B, 3, H, W) in [-1, 1] to CLIP's square, and normalise them."""
        side = self.model.image_size
        options = {"align_corners": True, "antialias": self.antialias}
        x = interpolate(x, (side, side), mode="bicubic", **options)
        return ((x + 1) / 2 - self.mean[:, None, None]) / self.std[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, E), not normalised, for pictures (B, 3, H, W) in [-1, 1]."""
        return self.model(self.preprocess(x).to(self.model.proj.dtype))


def _sizes(version: str, changes: Mapping[str, Any] | None) -> CLIPSizes:
    """Return the sizes of OpenAI's model, which uses the approximate GELU."""
    sizes = clip_sizes(openai_architecture(version) + QUICK)
    changes = dict(changes or {})
    for tower in ("text", "image"):
        if tower in changes:
            changes[tower] = TowerSizes(**changes[tower])
    return replace(sizes, **changes)
