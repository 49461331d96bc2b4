"""Train an IP-Adapter: the picture to draw is also the prompt to draw it by. arXiv:2308.06721.

Shapes: B batch, H W pixels, F width of a picture's features, L local ones a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from ldm.adapters.ip_adapter.adapter import IPHandle, new_ip_adapter
from ldm.adapters.ip_adapter.encoders import OWN, encoder_of
from ldm.adapters.ip_adapter.files import write_ip_adapter
from ldm.errors import UserError
from ldm.images.io import to_uint8
from ldm.models.training_parts import pictures_from
from ldm.training.adapters.trainable import Trainable

BEGINNINGS = ("nothing", "text")
FORMS = ("base", "full-face")


class IPAdapterTraining(Trainable):
    """An IP-Adapter in training.

    Args:
        model: The hub.
        tokens: How many a picture is told by in the base form.
        form: ``base`` tells all of a picture by a few tokens; ``full-face`` makes one of each local
            feature of the encoder, which keeps more of what stands where.
        encoder: What looks at pictures: the local folder of a CLIP vision model with projection, or
            ``first_stage N`` for the model's own latents, or ``unet N`` for what its UNet makes of
            them, pooled to N x N.
        picture_key: Entry of a batch that holds the pictures to draw by.
        begin: What the adapter's values begin as: ``nothing``, so that it changes nothing yet, or
            ``text``, the model's own for its text, which is nearer to what they become.
        dropout: Share of the pictures left out in training, so that guidance works; combine it with
            ``model.params.cond_dropout``.

    Raises:
        UserError: As ``new_ip_adapter``, the share is not from 0 to 1, or a word is none of those.
    """

    kind = "ip-adapter"

    def __init__(
        self,
        model: nn.Module,
        tokens: int = 4,
        encoder: str = "first_stage 8",
        picture_key: str = "jpg",
        begin: str = "nothing",
        form: str = "base",
        dropout: float = 0.05,
    ) -> None:
        super().__init__()
        if not 0 <= dropout <= 1:
            raise UserError(f"dropout {dropout} of pictures given; expected 0 to 1; correct it")
        for name, given, known in (("begin", begin, BEGINNINGS), ("form", form, FORMS)):
            if given not in known:
                wanted = " or ".join(known)
                raise UserError(f"{name} {given!r} given; expected {wanted}; correct it")
        named = encoder if OWN.fullmatch(encoder) else None
        looking = encoder if named else encoder_of(encoder, None, model)
        self.weights = new_ip_adapter(
            model, tokens, encoder=looking, by_text=begin == "text", local=form == "full-face"
        )
        self.picture_key, self.dropout = picture_key, dropout
        self._handle: IPHandle | None = None

    def attach(self, model: nn.Module) -> IPHandle:
        """Let the model attend to the pictures that ``see`` is shown."""
        self._handle = self.weights.attach(model)
        return self._handle

    def see(self, batch: Mapping[str, Any], rows: int | None) -> None:
        """Look at a batch's pictures."""
        x = pictures_from(batch, self.picture_key)[:rows]
        handle = self._handle
        pictures = [Image.fromarray(each) for each in to_uint8(x, rounded=True)]
        hidden = self.weights.image_proj.hidden
        features = handle.encoder(pictures, hidden=hidden).to(self._device())  # (B, F), (B, L, F)
        handle.feed(self._without_some(features))

    def _without_some(self, features: Tensor) -> Tensor:
        """Leave some of the pictures out: their features are then those of no picture, zeros."""
        if not self.training or self.dropout == 0:
            return features
        kept = torch.rand(len(features)) >= self.dropout
        return features * kept.to(features).view(-1, *[1] * (features.ndim - 1))

    def _device(self) -> torch.device:
        return next(self.weights.parameters()).device

    def save(self, folder: Path, name: str, header: Mapping[str, str]) -> Sequence[Path]:
        """Write one flat file of safetensors."""
        path = folder / f"{name}.safetensors"
        write_ip_adapter(self.weights, path, header, self.file_dtype)
        return [path]
