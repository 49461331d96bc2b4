"""Contrastive pretraining (CLIP) that teaches a conditioner words before diffusion training.

Shapes: B batch, H W pixels, L text tokens, D their width, E the width that both towers share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.building import build_from
from ldm.models.hub_training import Figures, HubTraining
from ldm.models.training_parts import pictures_from, with_scheduler

# CLIP starts from a temperature of 0.07 and lets the scale grow to 100 (section 2.5).
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


class PictureTower(nn.Module):
    """A small convolutional encoder: (B, 3, H, W) in [-1, 1] to (B, E).

    Args:
        image_size: H = W in pixels, a multiple of 16.
        embed_dim: E.
        widths: Channels after each halving of the sides.
    """

    def __init__(
        self, image_size: int, embed_dim: int, widths: tuple[int, ...] = (32, 64, 128, 192)
    ):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in widths:
            layers += [*_layer(before, width, stride=2)]
            if 32 < width < widths[-1]:  # the finest and the coarsest sides have one layer
                layers += [*_layer(width, width, stride=1)]
            before = width
        side = image_size // 2 ** len(widths)
        # Captions say where things are, so positions are kept and not averaged away.
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * side**2, embed_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def _layer(before: int, width: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, width, 3, stride, 1), nn.GroupNorm(8, width), nn.SiLU()


class ContrastiveTextImage(HubTraining):
    """CLIP's objective, arXiv:2103.00020, section 2.3, for a text encoder trained from scratch.

    A UNet learns the meaning of words slowly: a caption changes its loss by a hundredth. Matching
    the captions of a batch to its pictures teaches the same words a hundred times sooner. The text
    is summarised by the mean of its end tokens, not by the first alone as in CLIP, because
    cross-attention sees all of them.

    Args:
        cond_stage_config: ``target`` / ``params`` of the text encoder to train.
        image_size: H = W of the pictures.
        embed_dim: E.
        image_key: Entry of a batch that holds the pictures (B, H, W, 3) in [-1, 1].
        cond_stage_key: Entry that holds the captions.
        monitor: Logged value that chooses the best checkpoint.
        scheduler_config: ``target`` / ``params`` of a learning-rate multiplier, per step.
    """

    def __init__(
        self,
        cond_stage_config: Mapping[str, Any],
        image_size: int = 64,
        embed_dim: int = 256,
        image_key: str = "jpg",
        cond_stage_key: str = "txt",
        monitor: str | None = "val/loss",
        scheduler_config: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.image_key, self.cond_stage_key, self.monitor = image_key, cond_stage_key, monitor
        self.learning_rate, self.scheduler_config = 1e-3, scheduler_config
        self.cond_stage_model = build_from(cond_stage_config, where="cond_stage_config")
        width = self.cond_stage_model.transformer.config.hidden_size
        self.picture_tower = PictureTower(image_size, embed_dim)
        self.text_projection = nn.Linear(width, embed_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE), device="cpu"))

    def encode_text(self, text: list[str]) -> Tensor:
        """Return unit vectors (B, E) of B captions."""
        encoder = self.cond_stage_model
        tokens = encoder.tokens(text)
        states = encoder.transformer(input_ids=tokens).last_hidden_state.float()  # (B, L, D)
        ends = (tokens == encoder.tokenizer.eos_token_id).float()[..., None]  # (B, L, 1)
        summary = (states * ends).sum(1) / ends.sum(1)  # (B, D)
        return F.normalize(self.text_projection(summary).float(), dim=-1)

    def encode_pictures(self, x: Tensor) -> Tensor:
        """Return unit vectors (B, E) of pictures (B, 3, H, W) in [-1, 1]."""
        return F.normalize(self.picture_tower(x).float(), dim=-1)

    def forward(self, x: Tensor, text: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the symmetric cross-entropy of a batch, and what to log.

        ``accuracy`` is the share of pictures whose own caption scores highest in the batch.
        """
        scale = self.logit_scale.exp().clamp(max=LARGEST_SCALE)
        logits = scale * self.encode_pictures(x) @ self.encode_text(text).T  # (B, B)
        own = torch.arange(len(text), device=logits.device)
        loss = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
        accuracy = (logits.argmax(1) == own).float().mean()
        return loss, {"loss": loss, "accuracy": accuracy, "scale": scale}

    def _step(self, batch: Mapping[str, Any], split: str) -> tuple[Tensor, Figures]:
        loss, logs = self(pictures_from(batch, self.image_key), list(batch[self.cond_stage_key]))
        return loss, {f"{split}/{name}": value.detach() for name, value in logs.items()}

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> Tensor:  # noqa: ARG002
        """Return the loss to minimise, and log it."""
        loss, figures = self._step(batch, "train")
        self.log_figures(figures, batch, on_step=True)
        return loss

    def validation_figures(self, batch: Mapping[str, Any]) -> Figures:
        """Return what to log for a validation batch."""
        return self._step(batch, "val")[1]

    def configure_optimizers(self) -> Any:
        """Return AdamW, with a beta2 of 0.95 for short runs, and the schedule if configured."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.95))
        return with_scheduler(optimizer, self.scheduler_config)
