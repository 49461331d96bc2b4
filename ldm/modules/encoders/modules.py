"""Conditioners: they turn a batch's captions or classes into the UNet's context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.lazy import lazy_exports
from ldm.modules.diffusionmodules.util import HybridConditioner
from ldm.modules.encoders.base import AbstractEncoder
from ldm.modules.encoders.clip_conditioner import CLIPTextConditioner, resized
from ldm.modules.encoders.clip_text import CLIPTextConfig
from ldm.modules.encoders.tokenizer import CLIPTokenizer

# The reference's address of every conditioner, and where those are that have a file of their own.
ELSEWHERE = {
    "BERTEmbedder": "ldm.modules.encoders.bert",
    "BERTTokenizer": "ldm.modules.encoders.bert",
    "TransformerEmbedder": "ldm.modules.encoders.bert",
    "FrozenCLIPTextEmbedder": "ldm.modules.encoders.clip_projected",
    "FrozenClipImageEmbedder": "ldm.modules.encoders.clip_projected",
    "FrozenJapaneseCLIPEmbedder": "ldm.modules.encoders.japanese_clip",
    "FrozenOpenCLIPEmbedder": "ldm.modules.encoders.open_clip",
    "SpatialRescaler": "ldm.modules.encoders.spatial_rescaler",
    # What CompVis's file imports besides.
    "Encoder": "ldm.modules.x_transformer",
    "TransformerWrapper": "ldm.modules.x_transformer",
    "partial": "functools",
    "rearrange": "einops",
    "repeat": "einops",
}
__all__ = ["AbstractEncoder", "ClassEmbedder", "FrozenCLIPEmbedder", "HybridConditioner"]
__all__ += list(ELSEWHERE)
__getattr__, __dir__ = lazy_exports(__name__, ELSEWHERE)

CLIP_VERSIONS: dict[str, CLIPTextConfig] = {"openai/clip-vit-large-patch14": CLIPTextConfig()}


class ClassEmbedder(AbstractEncoder):
    """Look class numbers up in a learned table.

    Args:
        embed_dim: width D of the context.
        n_classes: rows of the table.
        key: the batch's entry that holds the class numbers.
    """

    def __init__(self, embed_dim: int, n_classes: int = 1000, key: str = "class") -> None:
        super().__init__()
        self.key, self.n_classes = key, n_classes
        self.embedding = nn.Embedding(n_classes, embed_dim)

    def forward(self, batch: Mapping[str, Tensor], key: str | None = None) -> Tensor:
        """Return (B, 1, D) for ``batch[key]``, the (B,) class numbers.

        Raises:
            UserError: A number is outside the table. Numbers on an accelerator are not checked,
                because that would have to wait for the device.
        """
        labels = batch[key or self.key]
        if labels.device.type == "cpu" and not ((labels >= 0) & (labels < self.n_classes)).all():
            raise UserError(
                f"classes {int(labels.min())} to {int(labels.max())} given; n_classes is"
                f" {self.n_classes}, so 0 to {self.n_classes - 1} are expected; set n_classes of"
                " cond_stage_config, one more than the data has where one class means none"
            )
        labels = labels.to(self.embedding.weight.device)
        return self.embedding(labels[:, None])

    encode = forward


class FrozenCLIPEmbedder(CLIPTextConditioner):
    """CLIP's text encoder as a conditioner, built from its sizes and filled from a checkpoint.

    Nothing is downloaded: the weights are random until a checkpoint fills
    ``cond_stage_model.transformer.*`` or training sets them.

    Args:
        version: a known text tower; only its sizes are used.
        device: where to put the weights; None leaves that to the caller, and so does building
            on the meta device. Tokens always follow the weights.
        max_length: tokens per prompt L, start and end included.
        text_config: sizes that differ from the version's, by the names of ``CLIPTextConfig``.
        trainable: keep the weights trainable instead of freezing them.
        ckpt_path: checkpoint of a whole model, or of contrastive training, to start from.

    Raises:
        UserError: the version is unknown, or sizes do not go together.
    """

    def __init__(
        self,
        version: str = "openai/clip-vit-large-patch14",
        device: str | torch.device | None = None,
        max_length: int = 77,
        text_config: Mapping[str, Any] | None = None,
        trainable: bool = False,
        ckpt_path: str | None = None,
    ) -> None:
        if version not in CLIP_VERSIONS:
            raise UserError(
                f"version {version!r} of the CLIP text encoder is not known; known: "
                f"{', '.join(CLIP_VERSIONS)}; give the sizes as text_config instead"
            )
        config = resized(CLIP_VERSIONS[version], text_config)
        super().__init__(
            CLIPTokenizer(max_length),
            config,
            device=device,
            trainable=trainable,
            ckpt_path=ckpt_path,
        )
