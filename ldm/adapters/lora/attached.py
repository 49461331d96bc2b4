"""A LoRA on a model: beside its layers (live), or in their weights (merged).

Live is the default: nothing is computed when it is attached, it takes no memory beyond the file,
and its strength may follow the steps. Merged, a step costs what it does without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from ldm.adapters.handle import Handle, Scale, at_moment
from ldm.adapters.lora.deltas import Delta
from ldm.adapters.lora.merged import Share, merge_into, original_of, take_out
from ldm.adapters.lora.places import Place
from ldm.errors import UserError
from ldm.modules.attention_control.moments import Moment, unet_of
from ldm.modules.encoders.clip_towers import MultiheadAttention
from ldm.offload.home import at_home

_FIRST_STEP = Moment(number=0, total=1)


class Bound:
    """A change of one place of a model.

    Args:
        place: Where.
        delta: The change of its weight.
        bias: The change of its bias (out,).
        trains: Whether the tensors are parameters in training: they are then used as they are.
    """

    def __init__(
        self, place: Place, delta: Delta | None, bias: Tensor | None, *, trains: bool = False
    ) -> None:
        self.place, self.delta, self.bias = place, delta, bias
        tensors = {} if delta is None else delta.tensors
        self._tensors = tensors if bias is None else tensors | {"diff_b": bias}
        self._trains = trains
        self._kept: dict[str, Tensor] = {}
        self._kept_for: tuple[Any, ...] | None = None

    def added(self, x: Tensor, out: Tensor, strength: float) -> Tensor:
        """Return the layer's output for ``x`` with the change."""
        follows = self.delta is None or self.delta.follows_input
        t = self._on(x.device, x.dtype if follows else None)
        bias = t.get("diff_b")
        if self.delta is None:
            change = self.place.run(x, None, bias)
        else:
            weight = self._weight(x.device) if self.delta.needs_weight else None
            change = self.delta.run(t, self.place, weight, x)
            if bias is not None:
                change = change + self.place.run(x, None, bias.to(x.dtype))
        change = change.to(out.dtype)
        if self.place.rows is None:
            return torch.add(out, change, alpha=strength)
        rows = self.place.rows
        changed = torch.add(out[..., rows], change, alpha=strength)
        return torch.cat([out[..., : rows.start], changed, out[..., rows.stop :]], dim=-1)

    def shares(self) -> dict[str, Share]:
        """Return what merging adds to the entries of the layer."""
        found = {}
        if self.delta is not None:
            found[self.place.entry] = Share(self._change_of_weight, self.place.rows)
        if self.bias is not None:
            found[self.place.bias_entry] = Share(self._change_of_bias, self.place.rows)
        return found

    def _change_of_weight(self, weight: Tensor) -> Tensor:
        t = {name: value.to(weight.device) for name, value in self._tensors.items()}
        with torch.autocast(weight.device.type, enabled=False):
            return self.delta.change(t, weight, tuple(weight.shape))

    def _change_of_bias(self, bias: Tensor) -> Tensor:
        return self.bias.to(bias.device, torch.promote_types(bias.dtype, torch.float32))

    def _weight(self, device: torch.device) -> Tensor:
        weight = original_of(self.place.module, self.place.entry).detach().to(device)
        return weight if self.place.rows is None else weight[self.place.rows]

    def _on(self, device: torch.device, dtype: torch.dtype | None) -> dict[str, Tensor]:
        """Return the tensors where the input is; they are moved there once."""
        if self._trains:
            return {n: v.to(device, dtype or v.dtype) for n, v in self._tensors.items()}
        if self._kept_for != (device, dtype):
            # A tensor made in inference mode could not be used in training later.
            with torch.inference_mode(False), torch.no_grad():
                self._kept = {n: v.to(device, dtype or v.dtype) for n, v in self._tensors.items()}
            self._kept_for = device, dtype
        return self._kept


class LoRAHandle(Handle):
    """A LoRA on a model, until ``detach``.

    Args:
        model: The hub.
        bounds: The changes of its places.
        scale: How strongly the UNet is changed; a function of the step only while it is live.
        text_scale: The same of the text encoder; None is the same as ``scale``. Prompts are
            encoded before a walk: a function is asked for its first step.
        source: The file, which can be on a model once only.
        merge: Whether to change the weights; see ``merge``.

    Attributes:
        merged: Whether the weights are changed.

    Raises:
        UserError: The file is on the model already, or a scale cannot be used.
    """

    def __init__(
        self,
        model: nn.Module,
        bounds: Sequence[Bound],
        scale: Scale = 1.0,
        text_scale: Scale | None = None,
        *,
        source: Path | None = None,
        merge: bool = False,
    ) -> None:
        self.bounds, self.source, self.merged = list(bounds), source, False
        self._text_scale = text_scale
        self._hooks: list[Any] = []
        for each in (scale, text_scale):
            self._check_scale(each, merged=merge)
        self._refuse_twice(model)
        super().__init__(model, scale)
        ATTACHED.add(self)
        try:
            self.merge() if merge else self._go_beside()
        except BaseException:
            self.detach()
            raise

    @property
    def scale(self) -> Scale:
        """How strongly the UNet is changed."""
        return self._scale

    @scale.setter
    def scale(self, scale: Scale) -> None:
        self._check_scale(scale, merged=self.merged)
        self._scale = scale
        self._merge_again()

    @property
    def text_scale(self) -> Scale | None:
        """How strongly the text encoder is changed; None is the same as ``scale``."""
        return self._text_scale

    @text_scale.setter
    def text_scale(self, scale: Scale | None) -> None:
        self._check_scale(scale, merged=self.merged)
        self._text_scale = scale
        self._merge_again()

    def strength_of(self, part: str) -> float:
        """Return the scale of the UNet or of the text encoder at the present step."""
        if part == "unet":
            return self.strength()
        scale = self._scale if self._text_scale is None else self._text_scale
        return at_moment(scale, _FIRST_STEP)

    def merge(self) -> None:
        """Change the weights themselves: steps then cost what they do without a LoRA.

        The original tensors are kept, and come back with ``unmerge`` or ``detach``.

        Raises:
            UserError: A scale is a function of the step, or the model has no weights yet, or
                averages that would take the place of the merged ones.
        """
        if self.merged or not self.attached:
            return
        if getattr(self.model, "use_ema", False):
            raise UserError(
                "a LoRA cannot be merged into a model that keeps averages of its weights, which "
                "are put in their place to draw; expected use_ema: false; attach it with "
                "merge=False"
            )
        for scale in (self._scale, self._text_scale):
            self._check_scale(scale, merged=True)
        self._leave_side()
        self.merged = True
        self._merge_again()

    def unmerge(self) -> None:
        """Restore the weights, and let the LoRA act beside them."""
        if self.merged and self.attached:
            self._take_out()
            self._go_beside()

    def _merge_again(self) -> None:
        if not (self.merged and self.attached):
            return
        with at_home(self.model):
            for (_, entry), (module, part, shares) in self._by_entry().items():
                merge_into(module, entry, self, shares, self.strength_of(part))

    def _take_out(self) -> None:
        self.merged = False
        with at_home(self.model):
            for (_, entry), (module, _, _) in self._by_entry().items():
                take_out(module, entry, self)

    def _by_entry(self) -> dict[tuple[int, str], tuple[nn.Module, str, list[Share]]]:
        """Return what is merged into each entry of each layer."""
        found: dict[tuple[int, str], tuple[nn.Module, str, list[Share]]] = {}
        for bound in self.bounds:
            module = bound.place.module
            for entry, share in bound.shares().items():
                start = module, bound.place.part, []
                found.setdefault((id(module), entry), start)[2].append(share)
        return found

    def _go_beside(self) -> None:
        for bound in self.bounds:
            module = bound.place.module
            if isinstance(module, MultiheadAttention):
                self._hooks.append(_Beside(module, self, bound))
            else:
                hook = _hook(self, bound)
                self._hooks.append(module.register_forward_hook(hook))

    def _leave_side(self) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    def _release(self) -> None:
        ATTACHED.discard(self)
        self._leave_side()
        if self.merged:
            self._take_out()

    def _refuse_twice(self, model: nn.Module) -> None:
        unet = unet_of(model)
        for other in ATTACHED:
            if self.source is not None and other.unet is unet and other.source == self.source:
                raise UserError(
                    f"LoRA {str(self.source)!r} is on this model already; expected a file once; "
                    "change the scale of its handle, or detach that first"
                )

    @property
    def unet(self) -> Any:
        """The UNet that it is on."""
        return self.follower.unet

    @staticmethod
    def _check_scale(scale: Scale | None, *, merged: bool) -> None:
        if callable(scale):
            if merged:
                raise UserError(
                    "a scale that is a function of the step was given for a merged LoRA; expected "
                    "a number; unmerge it first, or attach it with merge=False"
                )
        elif scale is not None and not math.isfinite(scale):
            raise UserError(f"a LoRA's scale is {scale}; expected a finite number, such as 0.8")


ATTACHED: WeakSet[LoRAHandle] = WeakSet()
"""Every LoRA that is on a model."""


def _hook(handle: LoRAHandle, bound: Bound) -> Any:
    def change(module: nn.Module, args: tuple[Any, ...], out: Tensor) -> Tensor:  # noqa: ARG001
        strength = handle.strength_of(bound.place.part)
        return bound.added(args[0], out, strength) if strength else out

    return change


class _Beside:
    """A change of open_clip's joined projections, which no layer of its own computes."""

    def __init__(self, module: MultiheadAttention, handle: LoRAHandle, bound: Bound) -> None:
        self._module, self._change = module, _hook(handle, bound)
        module.beside.append(self._call)

    def _call(self, x: Tensor, out: Tensor) -> Tensor:
        return self._change(self._module, (x,), out)

    def remove(self) -> None:
        self._module.beside.remove(self._call)
