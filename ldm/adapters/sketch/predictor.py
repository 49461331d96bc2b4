"""The latent edge predictor: from a UNet's features, pixel by pixel, to the latents of an edge map.

arXiv:2211.13752, section 4.1. Shapes: B samples, C channels of the latents, h w their sides, F
channels of all features together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ldm.adapters.handle import Scale, require_unet
from ldm.adapters.report import Report, base_of_model
from ldm.adapters.sketch.features import KIND, papers_blocks, width_of
from ldm.adapters.sketch.guidance import SketchHandle

HIDDEN = (512, 256, 128, 64)
WAVES = 9
"""Sines of the noise level; its periods are 1, 2, 4, ..."""
BETA, END = 1.6, 0.5
"""The paper's strength, and where guidance ends: halfway."""


class EdgePredictor(nn.Module):
    """A perceptron on each pixel: features of some blocks and the noise level -> (B, C, h, w).

    Args:
        blocks: The blocks' names in the UNet, such as ``input_blocks.2``.
        widths: Their channels.
        out_channels: C.
        hidden: Widths of the hidden layers.
        report: What is known of it.
    """

    def __init__(
        self,
        blocks: Sequence[str],
        widths: Sequence[int],
        out_channels: int,
        hidden: Sequence[int] = HIDDEN,
        report: Report | None = None,
    ) -> None:
        super().__init__()
        self.blocks, self.widths = tuple(blocks), tuple(widths)
        self.report = report or Report(Path("new"), KIND, "ldm", modules=len(self.blocks))
        self.first = nn.Conv2d(sum(widths) + 1 + WAVES, hidden[0], 1)
        layers: list[nn.Module] = [nn.ReLU(), nn.BatchNorm2d(hidden[0])]
        for before, after in zip(hidden, hidden[1:], strict=False):
            layers += [nn.Conv2d(before, after, 1), nn.ReLU(), nn.BatchNorm2d(after)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(hidden[-1], out_channels, 1))

    def forward(self, features: Sequence[Tensor], level: Tensor, size: Sequence[int]) -> Tensor:
        """Predict the latents of the edge map.

        Args:
            features: Of each block, (B, width, h', w').
            level: Noise std of the latents, (B,), 0 ... 1.
            size: h, w.
        """
        parts = self.first.weight.split([*self.widths, 1 + WAVES], dim=1)
        # What resizes and what mixes channels may change places; the other way round, all features
        # at full size would be held at once.
        total = F.conv2d(_waves(level), parts[-1], self.first.bias)  # (B, hidden, 1, 1)
        for feature, weight in zip(features, parts, strict=False):
            mixed = F.conv2d(feature.to(weight), weight)  # (B, hidden, h', w')
            total = total + F.interpolate(mixed, size=tuple(size), mode="bilinear")
        return self.layers(total)  # (B, C, h, w)

    def attach(
        self,
        model: nn.Module,
        sketch: Any,
        scale: Scale = BETA,
        start: float = 0.0,
        end: float = END,
        dark_lines: bool = False,
    ) -> SketchHandle:
        """Lead a model's walks by a drawing of lines; see ``SketchHandle``.

        Args:
            model: The hub.
            sketch: A picture, its file, or a list with one for each sample; bright lines on black.
            scale: The paper's beta.
            start: Fraction of the walk at which it begins.
            end: Fraction at which it ends.
            dark_lines: The lines are dark on white.

        Raises:
            UserError: It is made for another UNet, or the picture cannot be read.
        """
        return SketchHandle(self, model, sketch, scale, (start, end), dark_lines=dark_lines)


def new_edge_predictor(
    model: nn.Module, blocks: Sequence[str] | None = None, hidden: Sequence[int] = HIDDEN
) -> EdgePredictor:
    """Make a predictor for a model that has learned nothing yet.

    Args:
        model: The hub.
        blocks: Whose features it sees; None takes the paper's.
        hidden: Widths of its layers.

    Raises:
        UserError: The UNet has no such block.
    """
    unet = require_unet(model)
    blocks = papers_blocks(unet) if blocks is None else list(blocks)
    widths = [width_of(unet, name) for name in blocks]
    report = Report(Path("new"), KIND, "ldm", base_of_model(model), modules=len(blocks))
    return EdgePredictor(blocks, widths, unet.out_channels, hidden, report)


def _waves(level: Tensor) -> Tensor:
    """Return the noise level and its sines: (B,) -> (B, 1 + WAVES, 1, 1)."""
    k = torch.arange(WAVES, device=level.device)
    waves = torch.sin(2 * math.pi * level[:, None] * 2.0**-k)
    return torch.cat([level[:, None], waves], dim=1)[..., None, None]
