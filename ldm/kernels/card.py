"""A model made ready for a CUDA device: layout, kernels, attention, graphs; and the way back.

Everything is attached to the modules' instances, so that no key changes and a subclass's own layers
are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ldm.kernels.graphs import CudaCapture, StepGraphs
from ldm.kernels.head_width import ByHeadWidth
from ldm.modules.attention import GEGLU
from ldm.modules.attention_processors import AttentionLayer
from ldm.modules.diffusionmodules import model as vae
from ldm.modules.diffusionmodules.unet_blocks import ResBlock
from ldm.modules.diffusionmodules.util import GroupNorm32
from ldm.wrapping import Wrapping, with_attribute

NORMS = (nn.GroupNorm, GroupNorm32)


class Kernels(Protocol):
    """What computes in place of layers: ``ldm.kernels.cuda``."""

    def group_norm(
        self, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool
    ) -> Tensor:
        """Normalise a map (B,C,H,W), then apply SiLU if asked."""

    def gated(self, x: Tensor) -> Tensor:
        """Return value * GELU(gate) of both in one tensor (..., 2 D)."""


def triton_kernels() -> Kernels:
    """Return the kernels in Triton, which is imported here."""
    from types import SimpleNamespace

    from ldm.kernels.cuda.geglu import gated
    from ldm.kernels.cuda.group_norm import group_norm

    return SimpleNamespace(group_norm=group_norm, gated=gated)


@contextmanager
def prepared_for_card(
    model: Any, device: torch.device, *, kernels: bool, attention: str, graphs: bool
) -> Iterator[None]:
    """Return a context in which a hub, whole on a CUDA device, computes as chosen.

    Args:
        model: A hub in evaluation mode.
        device: The device it is on.
        kernels: Channels-last weights, fused norms and gates.
        attention: One of ``ldm.settings.speed.BACKENDS``.
        graphs: Record steps as CUDA graphs.
    """
    with ExitStack() as stack:
        if kernels:
            for part in (model.model, model.first_stage_model):
                stack.callback(channels_last(part))
                stack.callback(fuse(part, triton_kernels()))
        if attention != "torch":
            capability = torch.cuda.get_device_capability(device)[0]
            first = None if attention == "auto" else attention
            for layer in _attention_layers(model):
                stack.enter_context(
                    with_attribute(layer, "processor", ByHeadWidth(capability, first))
                )
        if graphs:
            stack.enter_context(
                with_attribute(model, "step_graphs", StepGraphs(model, CudaCapture))
            )
        yield


def channels_last(part: nn.Module) -> Callable[[], None]:
    """Lay the weights of 2-d convolutions out channels-last; return what restores their layout."""
    weights = [m.weight for m in part.modules() if isinstance(m, nn.Conv2d)]
    before = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.contiguous(memory_format=torch.channels_last)

    def undo() -> None:
        for weight, own in zip(weights, before, strict=True):
            # Not the tensor that was kept: the weight may have been written to in between.
            weight.data = torch.empty_strided(
                own.shape, own.stride(), dtype=weight.dtype, device=weight.device
            ).copy_(weight.data)

    return undo


def fuse(
    part: nn.Module, kernels: Kernels, *, on: tuple[str, ...] = ("cuda",)
) -> Callable[[], None]:
    """Let kernels compute a network's norms, with the SiLU behind them, and GEGLU's gates.

    Only where no gradients flow, on devices ``on``; elsewhere the layers compute as ever. Layers of
    other classes, and those that somebody listens to or replaced, are left alone.

    Returns:
        What takes them off again.
    """
    wrapping, coder_norms = Wrapping(), _coder_norms(part)
    silu_follows = _followed_by_silu(part)
    for module in part.modules():
        if type(module) is GEGLU and _is_untouched(module):
            wrapping.put(module, "forward", _Gate(module, kernels, on))
        elif type(module) in NORMS and module.affine and _is_untouched(module):
            act = silu_follows.get(module)
            wrapping.put(module, "forward", _Norm(module, kernels, on, silu=act is not None))
            if act is not None:
                wrapping.put(act, "forward", _Done(on))
    for norm in coder_norms:
        norm.activated = _Activated(norm, kernels, on)

    def undo() -> None:
        wrapping.undo()
        for norm in coder_norms:
            del norm.activated

    return undo


class _Where:
    """Tells where kernels compute: on some devices, without gradients."""

    def __init__(self, on: tuple[str, ...]) -> None:
        self.on = on

    def computes(self, x: Tensor) -> bool:
        return x.device.type in self.on and not torch.is_grad_enabled()


class _Norm(_Where):
    """A norm's stand-in."""

    def __init__(self, norm: nn.GroupNorm, kernels: Kernels, on: tuple[str, ...], silu: bool):
        super().__init__(on)
        self.norm, self.kernels, self.silu = norm, kernels, silu

    def __call__(self, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if not self.computes(x) or x.ndim != 4:
            out = own(x)
            # Its SiLU's stand-in cannot tell maps of other shapes apart.
            return nn.functional.silu(out) if self.silu and self.computes(x) else out
        norm = self.norm
        weights = norm.weight, norm.bias
        return self.kernels.group_norm(x, norm.num_groups, *weights, norm.eps, silu=self.silu)


class _Activated(_Where):
    """What an autoencoder's norm and the SiLU behind it compute."""

    def __init__(self, norm: nn.GroupNorm, kernels: Kernels, on: tuple[str, ...]) -> None:
        super().__init__(on)
        self.norm, self.kernels = norm, kernels

    def __call__(self, x: Tensor) -> Tensor:
        norm = self.norm
        if not self.computes(x):
            return nn.functional.silu(norm(x))
        weights = norm.weight, norm.bias
        return self.kernels.group_norm(x, norm.num_groups, *weights, norm.eps, silu=True)


class _Done(_Where):
    """The stand-in of a SiLU that the norm before it has computed."""

    def __call__(self, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return x if self.computes(x) else own(x)


class _Gate(_Where):
    """The stand-in of GEGLU: its projection as it is, then the gate in one pass."""

    def __init__(self, layer: GEGLU, kernels: Kernels, on: tuple[str, ...]) -> None:
        super().__init__(on)
        self.layer, self.kernels = layer, kernels

    def __call__(self, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return self.kernels.gated(self.layer.proj(x)) if self.computes(x) else own(x)


def _followed_by_silu(part: nn.Module) -> dict[nn.Module, nn.Module]:
    """Find norms whose only reader is the SiLU behind them, in the UNet's blocks and its head."""
    pairs = [block.in_layers[:2] for block in part.modules() if type(block) is ResBlock]
    pairs += [
        block.out_layers[:2]
        for block in part.modules()
        if type(block) is ResBlock and not block.use_scale_shift_norm
    ]
    head = getattr(getattr(part, "diffusion_model", part), "out", None)
    pairs += [head[:2]] if isinstance(head, nn.Sequential) and len(head) > 1 else []
    return {
        norm: act
        for norm, act in pairs
        if type(norm) in NORMS and norm.affine and type(act) is nn.SiLU
        if _is_untouched(norm) and _is_untouched(act)
    }


def _coder_norms(part: nn.Module) -> list[nn.GroupNorm]:
    """Find the norms of an autoencoder that SiLU follows: ``activated`` computes them."""
    owners = [m for m in part.modules() if type(m) in (vae.ResnetBlock, vae.Encoder, vae.Decoder)]
    norms = [getattr(m, name, None) for m in owners for name in ("norm1", "norm2", "norm_out")]
    return [n for n in norms if type(n) is nn.GroupNorm and n.affine and _is_untouched(n)]


def _is_untouched(module: nn.Module) -> bool:
    heard = module._forward_hooks or module._forward_pre_hooks
    return not heard and "forward" not in vars(module)


def _attention_layers(model: Any) -> list[nn.Module]:
    parts = (model.model, model.first_stage_model)
    return [
        module
        for part in parts
        for module in part.modules()
        if isinstance(module, AttentionLayer) and "processor" not in vars(module)
    ]
