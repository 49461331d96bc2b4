"""The reference's own recomputation in the backward pass, for code that calls it by name.

Ours goes through ``torch.utils.checkpoint``; see ``checkpoint`` in the file beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class CheckpointFunction(torch.autograd.Function):
    """Call a function without keeping its activations; compute it again for the gradients.

    ``CheckpointFunction.apply(run_function, length, *inputs, *parameters)``, where ``length`` is
    the number of inputs. Random numbers are drawn anew in the second computation, as in the
    reference, so that a function with dropout needs ``checkpoint``.
    """

    @staticmethod
    def forward(ctx: Any, run_function: Callable, length: int, *args: Any) -> Any:
        """Return ``run_function(*args[:length])``; the other arguments only receive gradients."""
        ctx.run_function, ctx.length = run_function, length
        ctx.is_tensor = [isinstance(arg, Tensor) for arg in args]
        ctx.others = [arg for arg in args if not isinstance(arg, Tensor)]
        ctx.save_for_backward(*(arg for arg in args if isinstance(arg, Tensor)))
        with torch.no_grad():
            return run_function(*args[:length])

    @staticmethod
    def backward(ctx: Any, *output_grads: Tensor) -> tuple[Any, ...]:
        """Return the gradients of inputs and parameters; None for what has none."""
        tensors, others = iter(ctx.saved_tensors), iter(ctx.others)
        args = [next(tensors) if tensor else next(others) for tensor in ctx.is_tensor]
        wanted = ctx.needs_input_grad[2:]
        inputs = [
            arg.detach().requires_grad_(needed) if tensor else arg
            for arg, needed, tensor in zip(args, wanted, ctx.is_tensor, strict=True)
        ][: ctx.length]
        with torch.enable_grad():
            outputs = ctx.run_function(*inputs)
        outputs = (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
        pairs = zip(outputs, output_grads, strict=True)
        differentiable = [(out, grad) for out, grad in pairs if out.requires_grad]
        sources = [*inputs, *args[ctx.length :]]
        found = torch.autograd.grad(
            [out for out, _ in differentiable],
            [source for source, needed in zip(sources, wanted, strict=True) if needed],
            [grad for _, grad in differentiable],
            allow_unused=True,
        )
        grads = iter(found)
        return None, None, *(next(grads) if needed else None for needed in wanted)
