"""Linear layers and convolutions of a UNet in 8-bit integers, as long as somebody wants it.

    y = s_x s_w (q_x - 128) * q_w + b      q_w = round(w / s_w),  q_x = round(x / s_x) + 128

s_w is a number for each output channel. s_x is found anew in each call, for each row of a linear
layer and each sample of a convolution, so that no picture depends on those drawn beside it. The
sums are exact, in 32-bit integers, by oneDNN.

Shape legend: B samples, C D channels, H W positions, N rows.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.wrapping import Wrapping

LARGEST = 127  # -128 is left out: the range is the same on both sides
ZERO = 128  # where activations, which are unsigned, have their zero
# What stays in float32: the embedding of the step, on which everything depends, and the layers
# next to the latents, which are a thousandth of the work.
KEPT = ("time_embed.", "label_emb.", "input_blocks.0.", "out.")
KEPT_WITHIN = ".emb_layers."
NARROWEST = 16  # input channels: with fewer the conversion takes longer than it saves


def is_native() -> bool:
    """Return whether the processor multiplies 8-bit integers by instructions of its own (VNNI).

    Others do it by way of 16-bit sums, which overflow.
    """
    asked = [getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("vnni", "avx512_vnni")]
    return torch.backends.mkldnn.is_available() and any(ask is not None and ask() for ask in asked)


class _Packed(NamedTuple):
    """A weight as oneDNN wants it, and what it was made of."""

    weight: Tensor
    scales: Tensor  # (D,)
    zeros: Tensor  # (D,)
    source: tuple[int, int]


def quantized_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight (D, ...) as int8 in -127 ... 127, and the scale (D,) of each channel."""
    flat = weight.detach().float().flatten(1)
    scales = (flat.abs().amax(1) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
    return (flat / scales[:, None]).round_().to(torch.int8).view(weight.shape), scales


def quantized_activation(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return x as uint8 around 128, and its scales, which are common to ``dims``."""
    scales = (x.abs().amax(dims, keepdim=True) / LARGEST).clamp_min(1e-30)
    # Adding a half and cutting off rounds, as all are positive.
    return (x / scales).add_(ZERO + 0.5).to(torch.uint8), scales


class _Integers(ABC):
    """Computes a layer in integers; its weight is packed when it is first used, or has changed."""

    def __init__(self, layer: nn.Linear | nn.Conv2d) -> None:
        self.layer = layer
        self._packed: _Packed | None = None

    def packed(self, x: Tensor) -> _Packed:
        weight = self.layer.weight
        source = weight.data_ptr(), weight._version
        if self._packed is None or self._packed.source != source:
            whole, scales = quantized_weight(weight)
            zeros = torch.zeros(len(scales), dtype=torch.int32)
            self._packed = _Packed(self.pack(whole, scales, x), scales, zeros, source)
        return self._packed

    @abstractmethod
    def pack(self, whole: Tensor, scales: Tensor, x: Tensor) -> Tensor:
        """Return an int8 weight as oneDNN wants it for inputs like x."""


class _Linear(_Integers):
    """(..., C) to (..., D)."""

    def pack(self, whole: Tensor, scales: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002
        return torch.ops.onednn.qlinear_prepack(whole, None)

    def __call__(self, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.requires_grad:
            return own(x)
        packed, rows = self.packed(x), x.reshape(-1, x.shape[-1])  # (N, C)
        q, scales = quantized_activation(rows, (1,))
        y = torch.ops.onednn.qlinear_pointwise(
            *(q, 1.0, ZERO, packed.weight, packed.scales, packed.zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )  # (N, D)
        y = y.mul_(scales)
        bias = self.layer.bias
        return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], -1)


class _Conv2d(_Integers):
    """(B, C, H, W) to (B, D, H', W'), in channels-last memory."""

    def pack(self, whole: Tensor, scales: Tensor, x: Tensor) -> Tensor:
        return torch.ops.onednn.qconv_prepack(whole, scales, 1.0, ZERO, *self.way, list(x.shape))

    @functools.cached_property
    def way(self) -> tuple[list[int], list[int], list[int], int]:
        layer = self.layer
        steps = (list(each) for each in (layer.stride, layer.padding, layer.dilation))
        return *steps, layer.groups

    def __call__(self, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if x.dtype != torch.float32 or x.requires_grad:
            return own(x)
        packed = self.packed(x)
        q, scales = quantized_activation(x, (1, 2, 3))
        q = q.contiguous(memory_format=torch.channels_last)
        y = torch.ops.onednn.qconv2d_pointwise(
            *(q, 1.0, ZERO, packed.weight, packed.scales, packed.zeros, None, *self.way),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        y = y.mul_(scales)
        bias = self.layer.bias
        return y if bias is None else y.add_(bias[:, None, None])


def convertible(unet: nn.Module) -> Iterator[tuple[str, nn.Linear | nn.Conv2d]]:
    """Find the layers of a UNet that are computed in integers, with their names.

    A subclass of a layer, somebody's research, is left as it is.
    """
    for name, layer in unet.named_modules():
        if name.startswith(KEPT) or KEPT_WITHIN in name or type(layer) not in _BY_LAYER:
            continue
        plain = not isinstance(layer, nn.Conv2d) or (
            layer.groups == 1 and layer.padding_mode == "zeros" and isinstance(layer.padding, tuple)
        )
        if plain and layer.weight.shape[1] >= NARROWEST:
            yield name, layer


_BY_LAYER = {nn.Linear: _Linear, nn.Conv2d: _Conv2d}


@contextmanager
def in_integers(unet: nn.Module) -> Iterator[int]:
    """Compute the layers of a UNet on the CPU in 8-bit integers within a ``with`` block.

    Its weights stay where they are and keep their names; what is changed in them meanwhile, such
    as by a merged LoRA, counts. Gradients take the plain way.

    Yields:
        How many layers are computed so.

    Raises:
        UserError: The processor has no instructions for it.
    """
    if not is_native():
        raise UserError(
            "--precision int8 was given; this processor has no instructions for sums of 8-bit "
            "products (VNNI); expected one that has; use --precision auto"
        )
    wrapping, count = Wrapping(), 0
    try:
        for _, layer in convertible(unet):
            wrapping.put(layer, "forward", _BY_LAYER[type(layer)](layer).__call__)
            count += 1
        yield count
    finally:
        wrapping.undo()
