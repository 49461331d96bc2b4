"""The UNet's halves as modules of their own, under the names of the optimizedSD fork.

Each is ``ldm``'s ``UNetModel`` without the other half, keys and arithmetic included.

Shapes: B batch, C channels, h w latent sides, L D context tokens and their width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ldm.modules.diffusionmodules.openaimodel import UNetModel


class UNetModelEncode(UNetModel):
    """The first half: ``time_embed``, ``input_blocks`` and ``middle_block``.

    Takes the parameters of ``UNetModel``.
    """

    def _add_second_half(self, *args: Any) -> None:
        """Leave the second half out."""

    forward = UNetModel.encode


class UNetModelDecode(UNetModel):
    """The second half: ``output_blocks`` and ``out``.

    Takes the parameters of ``UNetModel``.
    """

    def _add_first_half(self, *args: Any) -> None:
        """Leave the first half out; only the widths of its skips count."""
        mine = set(self._modules)
        with torch.device("meta"):  # has no numbers, takes no memory
            super()._add_first_half(*args)
        for name in set(self._modules) - mine:
            delattr(self, name)

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype."""
        return next(self.output_blocks.parameters()).dtype

    def forward(
        self,
        h: Tensor,
        emb: Tensor,
        dtype: torch.dtype,
        hs: Sequence[Tensor],
        context: Tensor | None = None,
    ) -> Tensor:
        """Predict from what the first half returned.

        Args:
            h: Its map (B,C',h',w').
            emb: Its time embedding (B, D).
            dtype: Element type of the prediction.
            hs: Its skips, left as they are.
            context: Tokens (B, L, D), the same as the first half's.

        Returns:
            Prediction (B, out_channels, h, w).
        """
        return self.decode(h, emb, hs, context).to(dtype)
