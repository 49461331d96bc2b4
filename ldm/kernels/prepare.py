"""Give a model's layers faster arithmetic on a processor, and take it back.

    kernels = prepare(model)  # the same modules; weights are packed when they first compute
    ...                       # draw
    kernels.release()         # every module computes as before; the packed copies are gone

Parameters, buffers and keys are untouched, and everything may be done to them meanwhile: load,
move, train, merge adapters into them. Hooks are called as always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ldm.kernels.blocked import attend_in_blocks
from ldm.kernels.layers import RememberingLinear, stand_ins_for
from ldm.modules.attention_processors import AttentionLayer, sdpa
from ldm.processor import free_memory
from ldm.wrapping import Wrapping

ROOM = 1.5
"""What has to be free, as a multiple of the packed copies: a run needs memory besides."""


def is_available() -> bool:
    """Return whether this build of torch has what packed arithmetic is made of."""
    wanted = ("_convolution_pointwise", "_linear_pointwise", "_reorder_linear_weight")
    return torch.backends.mkldnn.is_available() and all(
        hasattr(torch.ops.mkldnn, name) for name in wanted
    )


def lacking_memory(needed: int) -> str | None:
    """Say that packed copies of ``needed`` bytes would not fit into free memory, or None."""
    free = free_memory()
    if free is None or needed * ROOM <= free:
        return None
    return (
        f"packed weights take {needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB of memory are "
        "free"
    )


class Kernels:
    """Faster arithmetic for a model; also a context that releases it at its end.

    Args:
        model: A hub or any module.
        tiles: Whether large maps are convolved in tiles, which takes less time, and 16/9 of the
            memory for the weights of 3x3 taps.

    Attributes:
        attached: Whether the layers compute with it.
        taken: The layers that do.
    """

    def __init__(self, model: nn.Module, *, tiles: bool = True) -> None:
        self._layers = stand_ins_for(model, tiles=tiles)
        self._attending = [each for each in model.modules() if isinstance(each, AttentionLayer)]
        self._wrapping = Wrapping()
        self.attached = False
        self.taken: set[nn.Module] = set()

    @property
    def packed_bytes(self) -> int:
        """Bytes of the packed copies that are there."""
        return sum(weight.nbytes for _, layer in self._layers for weight in layer.weights)

    @property
    def most_numbers(self) -> int:
        """Numbers of the packed copies when all layers have computed."""
        weighty = [each for layer, each in self._layers if "weight" in layer._parameters]
        return sum(each.most_numbers for each in weighty)

    def attach(self) -> None:
        """Let the layers compute with it. What was packed before is used again."""
        if self.attached:
            return
        for layer, stand_in in self._layers:
            if "forward" in vars(layer):  # somebody else's arithmetic, such as 8-bit integers
                continue
            for weight in stand_in.weights:
                weight.look_again()
            self._wrapping.put(layer, "forward", stand_in)
            self.taken.add(layer)
        for layer in self._attending:
            if layer.processor is sdpa:  # not one that somebody has chosen
                self._wrapping.put(layer, "processor", attend_in_blocks)
        self.attached = True

    def detach(self) -> None:
        """Let the layers compute as before. The packed copies stay, for another ``attach``."""
        self._wrapping.undo()
        self.attached = False
        self.taken.clear()
        for _, stand_in in self._layers:
            if isinstance(stand_in, RememberingLinear):
                stand_in.forget()

    def release(self) -> None:
        """Let the layers compute as before, and drop the packed copies."""
        self.detach()
        for _, stand_in in self._layers:
            for weight in stand_in.weights:
                weight.forget()

    @contextmanager
    def during_run(self) -> Iterator[None]:
        """Attach inside the block; what is packed stays for the next one."""
        self.attach()
        try:
            yield
        finally:
            self.detach()

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *error: Any) -> None:
        self.release()


def prepare(model: nn.Module) -> Kernels:
    """Give a model's layers faster arithmetic, until the handle's ``release``.

    Convolutions and linear layers multiply with weights that oneDNN has packed, 3x3 taps in tiles
    of Winograd's, GEGLU with its gate inside the product, and the text's keys and values are
    computed once for all steps of a walk. Results are plain ones to float32 rounding. A layer is
    packed when it first computes.

    Example:
        with prepare(model):
            samples = list(sampler.walk(x, cond))[-1].x
    """
    kernels = Kernels(model)
    kernels.attach()
    return kernels
