"""Cancel a run from another thread: it ends within the operation that is under way.

    cancel = Cancel()
    for picture in pipeline.generate(settings, cancel=cancel): ...     # raises Cancelled
    cancel.cancel()                                                    # in any other thread

A step of a large picture takes a processor half a minute. So a model that may be cancelled looks
at the token before each of its convolutions and products, and attention over many positions is
computed in parts, to the same bits. Without a token nothing of this is there.

Shapes: B rows, N queries, M keys, d head width.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import Tensor, nn

from ldm.modules.attention_processors import AttentionLayer, sdpa
from ldm.modules.diffusionmodules import model as first_stage
from ldm.modules.diffusionmodules import unet_blocks
from ldm.wrapping import Wrapping

LONG = 2**35
"""FLOP of a call of attention from which it is computed in parts: a second on two slow cores."""
BLOCK = 256
"""Queries that torch's kernel on a processor takes at a time where there are many; parts are
multiples of it, so that each block of queries is computed as it is in one call."""
MANY = 3 * BLOCK
"""Queries from which it takes so many."""
UPSAMPLES = (unet_blocks.Upsample, first_stage.Upsample)


class Cancelled(Exception):
    """Raised inside a run that was cancelled; the message, if there is one, says why."""


class Cancel:
    """Whether a run is to end early; may be asked and answered from any thread.

    Args:
        event: What is set where it is to end; a new one if None.

    Attributes:
        why: The reason, for who is told of it.
    """

    def __init__(self, event: threading.Event | None = None) -> None:
        self._event = event or threading.Event()
        self.why = ""

    def cancel(self, why: str = "") -> None:
        """End the run, or what is begun with this token from now on."""
        self.why = self.why or why
        self._event.set()

    @property
    def asked(self) -> bool:
        """Whether it is to end."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise ``Cancelled`` if it is to end."""
        if self._event.is_set():
            raise Cancelled(self.why)


def pacing(device: torch.device) -> Callable[[], None]:
    """Return what is called after each step: it waits until a device is at most two steps behind.

    The host of a CUDA device runs ahead of it, and what is under way cannot be called back.
    """
    if device.type != "cuda":
        return lambda: None
    before: list[torch.cuda.Event] = []

    def step() -> None:
        event = torch.cuda.Event()
        event.record()
        before.append(event)
        if len(before) > 2:
            before.pop(0).synchronize()

    return step


@contextmanager
def interruptible(model: nn.Module, cancel: Cancel | None, *beside: nn.Module) -> Iterator[None]:
    """Let a model on a processor look at a token all the time inside the block.

    On other devices, and in parts that torch.compile has made anew, it does not: there the caller
    looks between the steps, which take less time.

    Args:
        model: A hub or any module.
        cancel: The token; None changes nothing.
        *beside: Networks that compute while the model does.
    """
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    if cancel is None or device.type != "cpu":
        yield
        return
    wrapping, hooks = Wrapping(), []
    for module in chain.from_iterable(map(_looking, (model, *beside))):
        hooks.append(module.register_forward_pre_hook(lambda *_: cancel.check()))
        if isinstance(module, AttentionLayer):
            wrapping.put(module, "processor", _InParts(cancel))
    try:
        yield
    finally:
        wrapping.undo()
        for hook in hooks:
            hook.remove()


def _looking(model: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules that look at the token before they compute.

    Not a norm, nor the convolution of an ``Upsample``: somebody else's arithmetic may stand in for
    those, and leaves them alone where anybody listens to them.
    """
    if model._compiled_call_impl is not None:
        return
    if isinstance(model, (nn.Conv2d, nn.Linear, AttentionLayer, *UPSAMPLES)):
        yield model
    for child in () if isinstance(model, UPSAMPLES) else model.children():
        yield from _looking(child)


class _InParts:
    """A processor of attention that looks at a token, and computes what takes long in parts.

    Args:
        cancel: The token.
    """

    def __init__(self, cancel: Cancel) -> None:
        self._cancel = cancel

    def __call__(
        self,
        own: Callable[..., Tensor],
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        mask: Tensor | None,
        scale: float,
    ) -> Tensor:
        """Attend: q (B,heads,N,d), k and v (B,heads,M,d) -> (B,heads,N,d)."""
        self._cancel.check()
        rows, heads, queries, width = q.shape
        each = 4 * queries * k.shape[2] * width  # FLOP of a head
        alone = own is sdpa and mask is None and q.device.type == "cpu"
        if not alone or rows * heads * each < LONG:
            return own(q, k, v, mask=mask, scale=scale)
        out = q.new_empty(rows, queries, heads, width).transpose(1, 2)
        parts = _parts(queries, -(-each // LONG))
        for row in range(rows):
            for head in range(heads):
                for part in parts:
                    self._cancel.check()
                    one = slice(row, row + 1), slice(head, head + 1)
                    out[(*one, part)] = own(q[(*one, part)], k[one], v[one], mask=None, scale=scale)
        return out


def _parts(queries: int, count: int) -> list[slice]:
    """Cut queries into about ``count`` parts, none so short that it is computed otherwise."""
    blocks = queries // BLOCK
    each = max(-(-blocks // count), MANY // BLOCK) * BLOCK
    starts = [*range(0, max(queries - MANY, 0) + 1, each)]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], queries], strict=True)]
