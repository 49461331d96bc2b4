"""Cut maps into patches and put them together by fold and unfold, under the reference's names.

For forks that call these methods of the hub or override them. The hub itself works in patches by
``ldm.models.tiling.patches``, with the weights of ``get_weighting``.
Shapes: B batch, C channels, H W sides of a map, kh kw sides of a patch, L = Ly Lx patches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.models.tiling.patches import SplitInput, edge_distance

Box = tuple[float, float, float, float]
"""Left, top, width and height, as fractions of the picture's sides."""


class SlidingWindow:
    """Fold and unfold, mixed into a hub.

    Attributes:
        split_input_params: See ``SplitInput``; ``get_weighting`` reads it.
    """

    def get_fold_unfold(
        self,
        x: Tensor,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        uf: int = 1,
        df: int = 1,
    ) -> tuple[nn.Fold, nn.Unfold, Tensor, Tensor]:
        """Prepare to cut x into patches, and to put their results together.

        As in the reference the windows do not move to end with the map: what is beyond the last
        whole stride is in no patch, and its normalization is 0.

        Args:
            x: Map (B,C,H,W).
            kernel_size: (kh, kw).
            stride: From one patch to the next, down and across.
            uf: Results are this many times larger than patches along a side: decoding.
            df: Or this many times smaller: encoding.

        Returns:
            ``fold``, from weighted results (B, C' kh' kw', L) to their sum (B, C', H', W');
            ``unfold``, from a map to patches (B, C kh kw, L); the sum of all weights
            (1, 1, H', W'), to divide by; and the weights (1, 1, kh', kw', L).

        Raises:
            UserError: Both ``uf`` and ``df``.
        """
        if uf > 1 and df > 1:
            raise UserError(f"uf {uf} and df {df} given; expected one of them to be 1")

        def scaled(sides: Sequence[int]) -> tuple[int, ...]:
            return tuple(side * uf // df for side in sides)

        counts = [
            (n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel_size, stride, strict=True)
        ]
        size, side = scaled(x.shape[2:]), scaled(kernel_size)
        unfold = nn.Unfold(kernel_size=tuple(kernel_size), stride=tuple(stride))
        fold = nn.Fold(output_size=size, kernel_size=side, stride=scaled(stride))
        weights = self.get_weighting(*side, *counts, x.device).to(x.dtype)
        normalization = fold(weights).view(1, 1, *size)
        return fold, unfold, normalization, weights.view(1, 1, *side, -1)

    def get_weighting(
        self,
        h: int,
        w: int,
        Ly: int,  # noqa: N803 - the reference's names
        Lx: int,  # noqa: N803
        device: torch.device | str,
    ) -> Tensor:
        """Weigh the elements of Ly x Lx patches of sides h and w: (1, h w, Ly Lx).

        The hub's own patches have these weights too.
        """
        split = SplitInput.of(self.split_input_params)
        return split.weighting(h, w, Ly, Lx, device, self.delta_border)

    def delta_border(self, h: int, w: int) -> Tensor:
        """Return each element's distance to the border (h, w): 0 there, at most 0.5, in sides."""
        return edge_distance(h, w)

    def meshgrid(self, h: int, w: int) -> Tensor:
        """Return the row and column of each element: (h, w, 2), integers."""
        return torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij"), dim=-1)

    def _rescale_annotations(self, bboxes: Iterable[Box], crop_coordinates: Box) -> list[Box]:
        """Move boxes of a picture into a part of it, cut off where they leave it."""
        left, top, width, height = crop_coordinates

        def rescaled(box: Box) -> Box:
            x = min(max((box[0] - left) / width, 0.0), 1.0)
            y = min(max((box[1] - top) / height, 0.0), 1.0)
            return x, y, min(box[2] / width, 1.0 - x), min(box[3] / height, 1.0 - y)

        return [rescaled(box) for box in bboxes]
