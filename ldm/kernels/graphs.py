"""Steps as CUDA graphs: what a step launches on a device is recorded once and replayed as a whole.

A step of Stable Diffusion launches some 700 small kernels, and a fast card waits for the host
between them. A graph holds the model's call and the combination of guidance, for one shape of the
inputs; it reads and writes the same memory each time, so inputs are copied to it and its result
from it. The kernels are the same, and so are the numbers.

Shapes: B rows, C channels, h w latent sides.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ldm.kernels.head_width import ByHeadWidth
from ldm.modules.attention_control.moments import listeners_of, stepping
from ldm.modules.attention_processors import AttentionLayer, sdpa
from ldm.process.guidance import ClassifierFreeGuidance, NoGuidance
from ldm.types import Conditioning, Guider
from ldm.wrapping import StandIn

PLAIN_GUIDERS = (ClassifierFreeGuidance, NoGuidance)


class Capture(Protocol):
    """Work that was recorded.

    Attributes:
        out: Its result, in memory that every replay writes anew.
    """

    out: Tensor

    def replay(self) -> None:
        """Do the work again, on what is in its inputs now."""


class CudaCapture:
    """Work recorded as a CUDA graph.

    Args:
        work: Reads and writes the same memory at each call; run twice before it is recorded, for
            libraries to choose their kernels.
    """

    def __init__(self, work: Callable[[], Tensor]) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self.out = work()

    def replay(self) -> None:
        self._graph.replay()


class StepGraphs:
    """Guided calls of a model, recorded for each shape; a denoiser asks it in place of the model.

    What only the plain model does is recorded. While something listens to it or acts on it, such
    as an adapter, or while gradients flow, ``call`` returns None, and the denoiser calls the model.
    That is looked at, and whether the weights are where they were, when the conditioning changes:
    at the start of each walk.

    Args:
        model: A hub, whole on its device.
        capture: Records work, such as ``CudaCapture``.
    """

    def __init__(self, model: Any, capture: Callable[[Callable[[], Tensor]], Capture]) -> None:
        self.model, self._capture = model, capture
        self._recorded: dict[Hashable, _Recorded] = {}
        self._weights: tuple[int, ...] = ()
        self._seen: tuple[Any, Any] | None = None
        self._plain = False

    def call(
        self, guider: Guider, x: Tensor, t: Tensor, cond: Conditioning, uncond: Conditioning
    ) -> Tensor | None:
        """Return the guided output (B,C,h,w) at x and t (B,), or None where none can be recorded.

        The result is the caller's own: no later call writes to it.
        """
        if type(guider) not in PLAIN_GUIDERS or torch.is_grad_enabled():
            return None
        if self._seen is None or self._seen[0] is not cond or self._seen[1] is not uncond:
            self._look(cond, uncond)
        if not self._plain:
            return None
        inputs, form = tree_flatten(guider.prepare(x, t, cond, uncond))
        key = (str(form), _autocast(x), type(guider), getattr(guider, "scale", None))
        key += tuple(_layout(each) for each in inputs)
        if key not in self._recorded:
            self._recorded[key] = _Recorded(self._capture, self.model, guider, inputs, form)
        return self._recorded[key].run(inputs)

    def _look(self, cond: Conditioning, uncond: Conditioning) -> None:
        """Look whether the model is as it was recorded, and forget what was recorded if not."""
        self._seen = (cond, uncond)
        self._plain = is_plain(self.model)
        weights = tuple(tensor.data_ptr() for tensor in self.model.model.state_dict().values())
        if weights != self._weights:
            self._recorded.clear()
            self._weights = weights


class _Recorded:
    """A guided call that was recorded, with the memory of its inputs."""

    def __init__(self, capture: Callable, model: Any, guider: Guider, inputs: list, form: Any):
        # Copies: what callers gave must not be written to.
        self._inputs = [each.clone() if isinstance(each, Tensor) else each for each in inputs]
        self._sources: list[tuple[Any, int | None]] = [(None, None)] * len(inputs)
        prepared, guider = tree_unflatten(self._inputs, form), copy(guider)
        device, dtype = inputs[0].device.type, torch.get_autocast_dtype(inputs[0].device.type)
        active = torch.is_autocast_enabled(device)

        def work() -> Tensor:
            # Cached casts would be freed with the run's autocast, and read by later replays.
            with torch.autocast(device, dtype, enabled=active, cache_enabled=False):
                return guider.combine(model.apply_model(*prepared), prepared[1])

        self._capture = capture(work)

    def run(self, inputs: list[Any]) -> Tensor:
        """Replay with other inputs; those that are known to be in place are not copied again."""
        for k, (place, given) in enumerate(zip(self._inputs, inputs, strict=True)):
            if isinstance(given, Tensor) and not self._is_in_place(k, given):
                place.copy_(given)
                self._sources[k] = (given, _version(given))
        self._capture.replay()
        return self._capture.out.clone()

    def _is_in_place(self, k: int, given: Tensor) -> bool:
        source, version = self._sources[k]
        return source is given and version is not None and version == _version(given)


def is_plain(model: Any) -> bool:
    """Check that nothing listens to a hub's network or acts on it, and that it does not train."""
    network = model.model
    if listeners_of(model) or stepping(model) or network.training:
        return False
    # What a subclass or an attribute computes may look at numbers, or differ from call to call.
    if "apply_model" in vars(model) or not _is_ours(type(model).apply_model):
        return False
    return not any(_is_acted_on(module) for module in network.modules())


def _is_acted_on(module: nn.Module) -> bool:
    if not _is_ours(type(module)):
        return True
    own = vars(module)
    hooks = module._forward_hooks or module._forward_pre_hooks
    forward = own.get("forward")
    if (
        hooks
        or (forward is not None and not _is_kernel(forward))
        or any(own.get(name) for name in ("side_networks", "between", "reuse", "joints"))
    ):
        return True
    if isinstance(module, AttentionLayer):
        plain = module.processor is sdpa or isinstance(module.processor, ByHeadWidth)
        return bool(module.beside) or not plain
    return False


def _is_kernel(forward: Any) -> bool:
    """Check whether a stand-in computes what the layer does, on the device alone."""
    return isinstance(forward, StandIn) and type(forward.func).__module__ == "ldm.kernels.card"


def _is_ours(thing: Any) -> bool:
    return thing.__module__.partition(".")[0] in ("ldm", "torch")


def _version(tensor: Tensor) -> int | None:
    """Count the writes to a tensor; tensors of ``inference_mode`` keep no count."""
    return None if tensor.is_inference() else tensor._version


def _layout(value: Any) -> Hashable:
    if isinstance(value, Tensor):
        return value.shape, value.dtype, value.stride(), value.device
    return value


def _autocast(x: Tensor) -> Hashable:
    kind = x.device.type
    return torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
