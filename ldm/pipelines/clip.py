"""CLIP with local weights: texts and pictures as unit vectors that can be compared.

Shape legend: B texts or pictures, E CLIP's width (768 for ViT-L/14).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn.functional import normalize

from ldm.data.pictures import to_model_range
from ldm.data.retrieval import Embedder
from ldm.errors import UserError
from ldm.modules.encoders.clip_projected import FrozenClipImageEmbedder, FrozenCLIPTextEmbedder
from ldm.paths import unreachable

CLIP_TYPE = "ViT-L/14"


class TextEncoder(Protocol):
    """Encodes texts as unit vectors."""

    def to(self, device: torch.device) -> None:
        """Move the encoder to ``device``."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return (B, E), each row of unit length, float32 on the encoder's device."""


class PictureEncoder(Protocol):
    """Encodes pictures as unit vectors.

    Attributes:
        embedder: Identifies the encoder.
    """

    embedder: Embedder

    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Encode RGB pictures: (B, E), each row of unit length, float32 on the CPU."""


class ClipTexts:
    """CLIP's text tower.

    Args:
        clip_type: OpenAI's name of the model.
        weights: File or folder with its weights; None looks in the local caches.
        device: Where to compute.

    Raises:
        UserError: an unknown model, or no weights on this machine.
    """

    def __init__(self, clip_type: str, weights: str | Path | None, device: torch.device) -> None:
        _require(weights)
        self._embedder = FrozenCLIPTextEmbedder(clip_type, device, weights=weights)
        self.tokenizer = self._embedder.tokenizer

    def to(self, device: torch.device) -> None:
        """Move the encoder to ``device``."""
        self._embedder.to(device)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        return self._embedder(list(texts)).float()


class ClipPictures:
    """CLIP's picture tower.

    Args:
        clip_type: OpenAI's name of the model.
        weights: File or folder with its weights; None looks in the local caches.
        device: Where to compute.

    Raises:
        UserError: an unknown model, or no weights on this machine.
    """

    def __init__(self, clip_type: str, weights: str | Path | None, device: torch.device) -> None:
        _require(weights)
        self._tower = FrozenClipImageEmbedder(clip_type, device=device, weights=weights)
        self._device = device
        projection = self._tower.model.proj.detach().float().cpu().numpy()
        self.embedder = Embedder(clip_type, hashlib.sha256(projection).hexdigest()[:10])

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Image.Image]) -> Tensor:
        side = self._tower.model.image_size
        pixels = np.stack([to_model_range(square(picture, side)) for picture in pictures])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self._device)
        return normalize(self._tower(x).float(), dim=1).cpu()


def square(picture: Image.Image, side: int) -> Image.Image:
    """Return the middle square of a picture as CLIP was trained to see it: bicubic, antialiased.

    Args:
        picture: RGB.
        side: Side of the square, in pixels.
    """
    return ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)


def _require(weights: str | Path | None) -> None:
    if weights is not None and (fault := unreachable(weights)):
        raise UserError(
            f"--clip_ckpt {weights} {fault}; expected CLIP's weights, a file or a folder "
            "from the Hugging Face hub; check the path (nothing is downloaded here)"
        )
