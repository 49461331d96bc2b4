"""Steps as CUDA graphs: what a step launches on a device is recorded once and replayed as a whole.

A step of Stable Diffusion launches some 700 small kernels, and a fast card waits for the host
between them. A graph holds the model's call, the combination of guidance and, where a step's
arithmetic comes again with other numbers, the sampler's rule (``ldm.kernels.deferred``), for one
shape of the inputs; it reads and writes the same memory each time, so inputs and the step's numbers
are copied to it and its results from it. The kernels are the same, and so are the numbers.

Shapes: B rows, C channels, h w latent sides.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ldm.kernels.deferred import OPERATIONS, Entry, Later, Tape, Work, do, key_of, real
from ldm.kernels.division import Division, division_on
from ldm.kernels.head_width import ByHeadWidth
from ldm.models.diffusion.denoiser import Denoiser, Step, StepRule
from ldm.modules.attention_control.moments import listeners_of, stepping
from ldm.modules.attention_processors import AttentionLayer, sdpa
from ldm.process.guidance import ClassifierFreeGuidance, NoGuidance
from ldm.types import Conditioning, Guider
from ldm.wrapping import StandIn

PLAIN_GUIDERS = (ClassifierFreeGuidance, NoGuidance)
OFTEN = 3
"""The time that a step's arithmetic comes and is recorded: that takes as long as some steps, and
the first and the last step of many samplers are of a form that comes once in a walk."""


class Capture(Protocol):
    """Work that was recorded.

    Attributes:
        out: Its results, in memory that every replay writes anew.
    """

    out: tuple[Tensor, ...]

    def replay(self) -> None:
        """Do the work again, on what is in its inputs now."""


class CudaCapture:
    """Work recorded as a CUDA graph.

    Args:
        work: Reads and writes the same memory at each call; run twice before it is recorded, for
            libraries to choose their kernels.
        beside: A recording that never runs at the same time: they share memory.
    """

    def __init__(
        self, work: Callable[[], tuple[Tensor, ...]], beside: CudaCapture | None = None
    ) -> None:
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        pool = None if beside is None else beside._graph.pool()
        with torch.cuda.graph(self._graph, pool=pool):
            self.out = work()

    def replay(self) -> None:
        self._graph.replay()


class StepGraphs:
    """Steps of a model, recorded for each shape; a denoiser asks it in place of the model.

    What only the plain model does is recorded. While something listens to it or acts on it, such
    as an adapter, or while gradients flow, ``call`` returns None, and the denoiser calls the model.
    That is looked at, and whether the weights are where they were, when the conditioning changes:
    at the start of each walk.

    Args:
        model: A hub, whole on its device.
        capture: Records work, such as ``CudaCapture``; it is given the work, and another recording
            or None. One runs at a time, and its results are copied before the next one does.
    """

    def __init__(self, model: Any, capture: Callable[[Callable, Any], Capture]) -> None:
        self.model, self._capture = model, capture
        self._recorded: dict[Hashable, _Recorded] = {}
        self._met: Counter[Hashable] = Counter()
        self._dtypes: dict[Hashable, torch.dtype] = {}  # of what the model returns
        self._weights: tuple[int, ...] = ()
        self._seen: tuple[Any, Any] | None = None
        self._plain = False
        self._tape = Tape(self._do)
        self._division = division_on(model.device)

    def call(
        self, guider: Guider, x: Tensor | Later, t: Tensor, cond: Conditioning, uncond: Conditioning
    ) -> Tensor | Later | None:
        """Return the guided output (B,C,h,w) at x and t (B,), or None where none can be recorded.

        The result is the caller's own: no later call writes to it.
        """
        if not self._records(guider, cond, uncond):
            return None
        ask = _Ask(self.model, guider, cond, uncond)
        dtype = self._dtypes.get(_kind(ask, x))
        if isinstance(x, Later) and dtype is not None:
            return self._tape.put(ask, x, t, *ask.tensors, dtype=dtype)
        return self._do(ask, real(x), t, *ask.tensors)

    def whole(self, rule: StepRule, sampler: Any, denoiser: Denoiser) -> StepRule:
        """Return a sampler's rule whose steps are recorded whole where they can be.

        A step is where its arithmetic comes ``OFTEN``. Not recorded is what somebody else's code
        does in the middle of a step: a sampler's subclass, a corrector of scores, the codebook of a
        first stage.
        """
        own = not _is_ours(type(sampler)) or getattr(sampler, "is_overridden", False)
        if own or denoiser.score_corrector is not None or denoiser.quantize_x0:
            return rule

        def step(x: Tensor, index: int) -> Step:
            known = self._division is not None and x.dtype == torch.float32
            if not known or not self._records(denoiser.guider, denoiser.cond, denoiser.uncond):
                return rule(x, index)
            with self._tape.step(x) as begin:
                taken = rule(begin, index)
                self._finish()
                return Step(*map(real, taken))

        return step

    def _finish(self) -> None:
        """Compute what the tape holds: all of it recorded, if it has come before."""
        work, inputs = self._tape.work(), self._tape.inputs
        if not any(isinstance(entry.does, _Ask) for entry in work.entries):
            self._tape.compute()
            return
        key = self._key(work, inputs)
        self._met[key] += 1
        if self._met[key] < OFTEN:
            self._tape.compute()
        else:
            self._tape.fill(self._run(key, work, inputs, self._tape.numbers))

    def _do(self, does: Any, *operands: Any) -> Tensor:
        """Carry out an entry by itself; the model's call is recorded."""
        if not isinstance(does, _Ask):
            return do(does, *operands)
        places = tuple(("input", k) for k in range(len(operands)))
        work = Work((Entry(does, places),), (0,))
        (out,) = self._run(self._key(work, operands), work, operands)
        self._dtypes[_kind(does, operands[0])] = out.dtype
        return out

    def _run(
        self, key: Hashable, work: Work, inputs: Sequence[Tensor], numbers: Sequence[Any] = ()
    ) -> tuple[Tensor, ...]:
        if key not in self._recorded:
            other = next((each.capture for each in self._recorded.values()), None)
            capture = partial(self._capture, beside=other)
            self._recorded[key] = _Recorded(capture, work, inputs, self._division)
        return self._recorded[key].run(inputs, numbers)

    def _key(self, work: Work, inputs: Sequence[Tensor]) -> Hashable:
        return work, key_of(inputs), _autocast(inputs[0].device)

    def _records(self, guider: Guider, cond: Conditioning, uncond: Conditioning) -> bool:
        """Check that calls by a guider can be recorded now."""
        if type(guider) not in PLAIN_GUIDERS or torch.is_grad_enabled():
            return False
        if self._seen is None or self._seen[0] is not cond or self._seen[1] is not uncond:
            self._look(cond, uncond)
        return self._plain

    def _look(self, cond: Conditioning, uncond: Conditioning) -> None:
        """Look whether the model is as it was recorded, and forget what was recorded if not."""
        self._seen = (cond, uncond)
        self._plain = is_plain(self.model)
        weights = tuple(tensor.data_ptr() for tensor in self.model.model.state_dict().values())
        if weights != self._weights:
            self._recorded.clear()
            self._weights = weights


class _Ask:
    """A guided call of a model, of which those with the same guidance do the same.

    Attributes:
        tensors: Those of the conditioning, which a call is given.
    """

    def __init__(self, model: Any, guider: Guider, cond: Conditioning, uncond: Conditioning):
        leaves, self._form = tree_flatten(guider.join(cond, uncond))
        # A copy, which has them joined and does not join them once more in each call.
        self._model, self._guider, self._pair = model, copy(guider), (cond, uncond)
        self.tensors = [each for each in leaves if isinstance(each, Tensor)]
        self._others = [Tensor if isinstance(each, Tensor) else each for each in leaves]
        self._same = (type(guider), getattr(guider, "scale", None), str(self._form))
        self._same += tuple(self._others)

    def __call__(self, x: Tensor, t: Tensor, *tensors: Tensor) -> Tensor:
        rows, times, _ = self._guider.prepare(x, t, *self._pair)
        given = iter(tensors)
        leaves = [next(given) if each is Tensor else each for each in self._others]
        out = self._model.apply_model(rows, times, tree_unflatten(leaves, self._form))
        return self._guider.combine(out, times)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ask) and self._same == other._same

    def __hash__(self) -> int:
        return hash(self._same)


class _Recorded:
    """Work that was recorded, with the memory of its inputs and of its numbers."""

    def __init__(
        self, capture: Callable, work: Work, inputs: Sequence[Tensor], division: Division | None
    ) -> None:
        # Copies: what callers gave must not be written to.
        self._inputs = [each.clone() for each in inputs]
        self._sources: list[tuple[Any, int | None]] = [(None, None)] * len(inputs)
        device = inputs[0].device
        # Which of the numbers are divisors, in their order.
        places = sorted({p for e in work.entries for p in e.operands if p[0] in NUMBERS}, key=_last)
        self._divides = [kind == "divisor" for kind, _ in places]
        self._division = division
        self._numbers = torch.ones(len(places), device=device)
        given = {"input": self._inputs, **dict.fromkeys(NUMBERS, self._numbers.unbind())}
        active, dtype = _autocast(device)

        def carry_out(does: Any, *operands: Tensor) -> Tensor:
            return _with_numbers(does, operands, division)

        def whole() -> tuple[Tensor, ...]:
            # Cached casts would be freed with the run's autocast, and read by later replays.
            with torch.autocast(device.type, dtype, enabled=active, cache_enabled=False):
                return work.results(given, carry_out)

        self.capture = capture(whole)

    def run(self, inputs: Sequence[Tensor], numbers: Sequence[Any]) -> tuple[Tensor, ...]:
        """Replay with other inputs; those that are known to be in place are not copied again."""
        for k, (place, given) in enumerate(zip(self._inputs, inputs, strict=True)):
            if not self._is_in_place(k, given):
                place.copy_(given)
                self._sources[k] = (given, _version(given))
        if numbers:
            self._put(numbers)
        self.capture.replay()
        return tuple(out.clone() for out in self.capture.out)

    def _put(self, numbers: Sequence[Any]) -> None:
        pairs = zip(map(float, numbers), self._divides, strict=True)
        values = [self._division.number(n) if divides else n for n, divides in pairs]
        host = torch.tensor(values, dtype=torch.float32, device="cpu")
        if self._numbers.device.type == "cuda":
            host = host.pin_memory()  # else the host would wait for the copy
        self._numbers.copy_(host, non_blocking=True)

    def _is_in_place(self, k: int, given: Tensor) -> bool:
        source, version = self._sources[k]
        return source is given and version is not None and version == _version(given)


NUMBERS = ("number", "divisor")


def _with_numbers(does: Any, operands: Sequence[Tensor], division: Division | None) -> Tensor:
    """Carry out an entry whose numbers are on the device, as with those of the host's."""
    if does not in OPERATIONS.values() or all(each.ndim for each in operands):
        return do(does, *operands)
    # Kernels take the host's numbers in float32, and round a half-precision result once.
    dtype = next(each.dtype for each in operands if each.ndim)
    if does is operator.truediv and not operands[1].ndim:
        does = division.does
    return does(*(each.float() for each in operands)).to(dtype)


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


def _autocast(device: torch.device) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)


def _kind(ask: _Ask, x: Tensor | Later) -> Hashable:
    return ask, x.shape, x.dtype, _autocast(x.device)


def _last(pair: tuple[str, int]) -> int:
    return pair[1]
