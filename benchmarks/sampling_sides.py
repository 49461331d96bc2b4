"""The sides of the sampling benchmark: one walk on the same weights, computed in different ways."""

from __future__ import annotations

import importlib.util
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Walk = Callable[[Any, tuple], "Iterator[torch.Tensor]"]
HINTS = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}
"""OpenVINO's names of the element types that it computes in."""
SCALE = 7.5
"""Of guidance."""


@dataclass(frozen=True)
class Side:
    """One that takes turns.

    Attributes:
        turn: Takes some steps; returns the seconds of each and the last x, None if it shows none.
        prepared: Seconds that its conversion took; None if the first step prepares it.
    """

    turn: Callable[[int], tuple[list[float], torch.Tensor | None]]
    prepared: float | None = None


def random_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Draw weights that keep activations near unit scale; norms are left at 1 and 0."""
    import torch

    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, meta in model.state_dict().items():
        tensor = torch.empty(meta.shape)
        if meta.ndim > 1:
            tensor.normal_(std=meta[0].numel() ** -0.5, generator=generator)
        else:
            tensor.fill_(float(name.endswith("weight")))
        state[name] = tensor
    return state


def packed_walk(kernels: Any, walk: Walk) -> Walk:
    """Return a walk that computes with prepared layers until it is closed."""

    def packed(unet: torch.nn.Module, start: tuple) -> Iterator[torch.Tensor]:
        with kernels.during_run():
            yield from walk(unet, start)

    return packed


def has_openvino() -> bool:
    """Return whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


class InOpenVINO:
    """A function of tensors, converted and compiled by OpenVINO for a processor.

    Args:
        function: Returns one tensor; what it computes with is a module, or part of one.
        inputs: Its tensors, of the shapes that it is compiled for.
        precision: ``float32``, ``bfloat16`` or ``float16``: what it computes in.

    Attributes:
        seconds: What the conversion took.
    """

    def __init__(self, function: Callable[..., Any], inputs: tuple, precision: str) -> None:
        import openvino
        import torch

        class Module(torch.nn.Module):
            def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
                return function(*tensors)

        begin = time.perf_counter()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing warns of every comparison of shapes
            model = openvino.convert_model(Module(), example_input=inputs)
        model.reshape({n: list(tensor.shape) for n, tensor in enumerate(inputs)})
        hints = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = openvino.Core().compile_model(model, "CPU", hints)
        self._request = compiled.create_infer_request()
        self.seconds = time.perf_counter() - begin

    def __call__(self, *tensors: torch.Tensor) -> torch.Tensor:
        """Compute; NumPy, which takes the tensors over, has no bfloat16."""
        import torch

        given = {
            n: t.float().numpy() if t.is_floating_point() else t.numpy()
            for n, t in enumerate(tensors)
        }
        return torch.from_numpy(self._request.infer(given)[0].copy())


class UNetInOpenVINO(InOpenVINO):
    """Diffusers' UNet in OpenVINO, called as the original.

    Args:
        unet: What to convert.
        inputs: x (B, 4, h, w), steps (B,) and context (B, L, D).
        precision: See ``InOpenVINO``.
    """

    def __init__(self, unet: torch.nn.Module, inputs: tuple, precision: str) -> None:
        import torch

        self.dtype = torch.float32
        function = lambda x, t, context: unet(x, t, context, return_dict=False)[0]  # noqa: E731
        super().__init__(function, inputs, precision)

    def __call__(
        self, x: torch.Tensor, t: torch.Tensor, *, encoder_hidden_states: torch.Tensor, **_: Any
    ) -> tuple[torch.Tensor]:
        """Predict (B, 4, h, w)."""
        return (super().__call__(x, t.expand(len(x)).contiguous(), encoder_hidden_states),)


def peak_gib() -> float:
    """Return the largest memory that the process has had, in GiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
