"""The layers of an autoencoder's half in the order in which they compute.

The reference's halves have the same parts, so that its file may stand in place of ours.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def coder_layers(half: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of an ``Encoder`` or ``Decoder``, each one map to one, to the last norm."""
    yield half.conv_in
    middle = (half.mid.block_1, half.mid.attn_1, half.mid.block_2)
    if not hasattr(half, "down"):
        yield from middle
        for level in reversed(half.up):
            yield from _level_layers(level, "upsample")
        return
    for level in half.down:
        yield from _level_layers(level, "downsample")
    yield from middle


def _level_layers(level: nn.Module, resample: str) -> Iterator[nn.Module]:
    for j, block in enumerate(level.block):
        yield block
        if len(level.attn):
            yield level.attn[j]
    if hasattr(level, resample):
        yield getattr(level, resample)
