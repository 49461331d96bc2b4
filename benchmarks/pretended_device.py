"""Run code for an accelerator on a machine without one: sizes and devices are real, memory is not.

Inside ``pretended_device()`` every new tensor is fake: it has a shape, a dtype and a device, and no
storage behind it. torch's fake tensors leave out what models need that move their weights about;
that is added here: setting ``.data`` moves a parameter, pinned memory and streams are there, and
attention takes a fused kernel's memory. A weight left on the wrong device is an error as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode

KIND = "cuda"  # the type of device that is pretended


@contextlib.contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Pretend inside that there is an accelerator; return the device to give to ``.to``."""
    module = torch.get_device_module(KIND)
    absent = {name: _Absent for name in ("Stream", "Event", "stream", "current_stream")}
    with (
        FakeTensorMode(),
        _Movable(),
        mock.patch.object(nn.Module, "_apply", _apply_in_place),
        mock.patch.object(FakeTensor, "__new__", _new_fake),
        mock.patch.multiple(module, **absent),
        # Else torch.autocast switches itself off.
        mock.patch.object(module.amp.common, "amp_definitely_not_available", lambda: False),
    ):
        yield torch.device(KIND, 0)


class _Absent:
    """Stands for streams and events, of which the order of execution here needs none."""

    device = torch.device(KIND, 0)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> _Absent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name not in (
            "record",
            "wait",
            "synchronize",
            "wait_event",
            "wait_stream",
            "record_event",
        ):
            raise AttributeError(name)
        return lambda *_, **__: None


def _apply_in_place(module: nn.Module, fn: Callable[[Tensor], Tensor], recurse: bool = True):
    """Convert as ``nn.Module._apply`` does from a CPU to a GPU, but not with fake tensors."""
    for child in module.children() if recurse else ():
        _apply_in_place(child, fn)
    with torch.no_grad():
        for parameter in module._parameters.values():
            if parameter is not None:
                parameter.data = fn(parameter)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fn(buffer)
    return module


_make_fake = FakeTensor.__new__


def _new_fake(cls: type, *args: object, **kwargs: object) -> Tensor:
    """Make a fake parameter where a library asks the parameter's class for another like it."""
    if len(args) == 1 and isinstance(args[0], FakeTensor) and kwargs.keys() == {"requires_grad"}:
        return nn.Parameter(args[0], **kwargs)
    return _make_fake(cls, *args, **kwargs)


class _Movable(TorchFunctionMode):
    """Answers for fake tensors what torch's own do not."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and args[0].device.type == KIND:
            return _fused_attention(args[0])
        if func is Tensor.data_ptr:
            return args[0].untyped_storage()._cdata
        if func is Tensor.pin_memory:
            return args[0].clone()
        if func is Tensor.is_pinned:
            return True
        if func is Tensor.record_stream:
            return None
        kwargs.pop("pin_memory", None)
        result = func(*args, **kwargs)
        # The setter is bound anew at each look, so identity would not find it.
        if func == Tensor.data.__set__:
            args[0].fake_device = args[1].fake_device
        return result


def _fused_attention(q: Tensor) -> Tensor:
    """Take what torch's fused kernels take for queries (B, heads, N, d).

    That is the result, a log-sum of each row's scores, and a sum in float32 where heads are wider
    than 128, as in the memory-efficient kernel.
    """
    out = torch.empty_like(q)
    held = [q.new_empty(q.shape[:-1], dtype=torch.float32)]
    if q.shape[-1] > 128 and q.dtype != torch.float32:
        held.append(torch.empty_like(q, dtype=torch.float32))
    return out
