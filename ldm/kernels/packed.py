"""A layer's weight in the order in which oneDNN multiplies with it, for as long as it is the same.

Plain layers bring their weight into this order at every call: at 32x32 latents that takes a
quarter of a step of Stable Diffusion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.kernels.pages import release_file_pages

Copy = Any  # a tensor, or a tuple of them

SAMPLED = 16
"""Numbers of a weight that are compared when a run begins."""


class Packed:
    """A packed copy of a weight, made at its first use and made anew when the weight changes.

    Another tensor in its place, a change in place, a move and another dtype are noticed at the
    next call. What torch does not count, a change through ``weight.data``, is noticed by a sample
    when a run begins.

    Args:
        pack: Makes the copy: ``pack(weight, x)`` for an input like ``x``, in whose element type the
            weight is. It may be of several tensors.
    """

    def __init__(self, pack: Callable[[Tensor, Tensor], Copy]) -> None:
        self._pack = pack
        self.forget()

    def forget(self) -> None:
        """Drop the copy."""
        # ``_seen`` shares the weight's memory: while it is held no other weight can be at its
        # address, so that equal addresses are the same tensor.
        self._weight: Tensor | None = None
        self._seen: Tensor | None = None
        self._copy: Copy | None = None
        self._sample: Tensor | None = None
        self._version = -1
        self._dtype: torch.dtype | None = None

    def of(self, weight: Tensor, x: Tensor) -> Copy:
        """Return the copy of ``weight``, in the element type of ``x``.

        Args:
            weight: A parameter or a buffer, not made in inference mode.
            x: What it is to be multiplied with.
        """
        if not self._holds(weight, x.dtype):
            # What is made in inference mode could not be compared outside of it.
            with torch.inference_mode(False), torch.no_grad():
                seen = weight.detach()
                self._copy = self._pack(seen.to(x.dtype), x)
                self._sample = _sample(seen)
            self._weight, self._seen, self._version = weight, seen, weight._version
            self._dtype = x.dtype
            release_file_pages(seen)
        return self._copy

    def look_again(self) -> None:
        """Drop the copy if a sample of its weight has changed since."""
        if self._seen is not None and not torch.equal(_sample(self._seen), self._sample):
            self.forget()

    @property
    def nbytes(self) -> int:
        """Bytes of the copy."""
        return sum(part.numel() * part.element_size() for part in self._parts)

    @property
    def is_made(self) -> bool:
        """Whether there is a copy, of this weight or of one that was there before."""
        return self._copy is not None

    @property
    def _parts(self) -> Sequence[Tensor]:
        if self._copy is None:
            return ()
        return (self._copy,) if isinstance(self._copy, Tensor) else self._copy

    def _holds(self, weight: Tensor, dtype: torch.dtype) -> bool:
        return (
            weight is self._weight
            and dtype == self._dtype
            and weight._version == self._version
            and weight.data_ptr() == self._seen.data_ptr()
            and weight.dtype == self._seen.dtype
        )


def _sample(weight: Tensor) -> Tensor:
    flat = weight.flatten()
    return flat[:: max(1, flat.numel() // SAMPLED)].clone()


def pack_convolution(layer: nn.Conv2d) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what packs a convolution's weight (C', C, kh, kw) for maps (B, C, h, w)."""

    def pack(weight: Tensor, x: Tensor) -> Tensor:
        geometry = layer.padding, layer.stride, layer.dilation, layer.groups
        dense = weight.contiguous().to_mkldnn()
        return torch._C._nn.mkldnn_reorder_conv2d_weight(dense, *geometry, list(x.shape))

    return pack


def pack_linear(rows: slice = slice(None)) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what packs those rows of a weight (D', D) for tokens (..., D)."""

    def pack(weight: Tensor, x: Tensor) -> Tensor:
        count = x.numel() // x.shape[-1]
        return torch.ops.mkldnn._reorder_linear_weight(weight[rows].contiguous(), count)

    return pack


def pack_phase(down: int, right: int) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what packs a phase of a 3x3 weight (C', C, 3, 3) after doubling by nearest neighbours.

    Of the three taps in a direction two fall on one and the same pixel of the map that was doubled:
    the first two where ``down`` (``right``) is 1, the last two where it is 0. Their sum is one tap.
    """

    def pack(weight: Tensor, x: Tensor) -> Tensor:
        taps = _merge_taps(_merge_taps(weight, 2, down), 3, right).contiguous()  # (C', C, 2, 2)
        geometry = [0, 0], [1, 1], [1, 1], 1
        return torch._C._nn.mkldnn_reorder_conv2d_weight(taps.to_mkldnn(), *geometry, list(x.shape))

    return pack


def _merge_taps(weight: Tensor, dim: int, second: int) -> Tensor:
    first, middle, last = weight.unbind(dim)
    return torch.stack([first + middle, last] if second else [first, middle + last], dim)
