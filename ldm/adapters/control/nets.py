"""ControlNets: reading them in every layout that they are published in, and their part in a step.

Shapes: b rows of a call, n hints, C channels, h w latent sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.control.files import Found
from ldm.adapters.control.filling import check_base, fill
from ldm.adapters.control.hints import Hint
from ldm.adapters.control.lent import Lent
from ldm.adapters.control.modes import (
    BALANCED,
    PROMPT,
    chosen_rows,
    output_weights,
    soft_weights,
)
from ldm.adapters.handle import Handle, Scale, require_unet, within
from ldm.adapters.report import Report
from ldm.checkpoint.diffusers.control_keymaps import control_from_diffusers
from ldm.errors import UserError
from ldm.modules.diffusionmodules.control_net import ControlNet, control_net_like
from ldm.modules.diffusionmodules.openaimodel import Context

DIFFERENCE = "difference"
"""A key by which a file says that its copied weights are differences to the base model's."""
_CONTEXT = ".attn2.to_k.weight"


def read_net(found: Found, model: nn.Module) -> tuple[ControlNet, Report]:
    """Build a file's ControlNet beside a model's UNet.

    Raises:
        UserError: It is made for another model.
    """
    unet = require_unet(model)
    report = Report(found.path, found.kind, found.form, notes=list(found.notes))
    widths = {v.shape[-1] for n, v in found.tensors.items() if n.endswith(_CONTEXT) and v.ndim == 2}
    check_base(min(widths, default=0), found, model, report)
    state = _named(found, unet, report)
    first, hint = (
        _channels(state, key, found) for key in ("input_blocks.0.0", "input_hint_block.0")
    )
    with torch.device("meta"):
        network = control_net_like(unet, first, hint)
    if found.form != "diffusers" and DIFFERENCE in state:
        report.form += " (difference)"
        state = _added(state, unet)
    fill(network, state, found, report)
    return network, report


def _named(found: Found, unet: nn.Module, report: Report) -> dict[str, Tensor]:
    """Return a file's weights under cldm's names."""
    if found.form != "diffusers":
        return dict(found.tensors)
    config = {
        "channel_mult": unet.channel_mult,
        "num_res_blocks": [level.res_blocks for level in unet.layout.levels],
        "attention_resolutions": unet.attention_resolutions,
        "use_spatial_transformer": unet.factory.context_dim is not None,
        "resblock_updown": unet.resblock_updown,
    }
    state, unknown = control_from_diffusers(found.tensors, config)
    report.unused += unknown
    if found.settings.get("controlnet_conditioning_channel_order", "rgb") == "bgr":
        first = "input_hint_block.0.weight"
        state[first] = state[first].flip(1)
    return state


def _channels(state: dict[str, Tensor], layer: str, found: Found) -> int:
    weight = state.get(f"{layer}.weight")
    if weight is None or weight.ndim != 4:
        raise UserError(
            f"{found.kind} {found.name} has no convolution {layer!r}; expected a ControlNet's "
            "weights; download the file again"
        )
    return weight.shape[1]


def _added(state: dict[str, Tensor], unet: nn.Module) -> dict[str, Tensor]:
    """Add the base model's weights to a file of differences."""
    base = {name: value for name, value in unet.state_dict().items() if name in state}
    del state[DIFFERENCE]
    with torch.no_grad():
        added = {n: state[n].float() + base[n].cpu().float() for n in base}
        return state | {n: value.to(state[n].dtype) for n, value in added.items()}


class NetHandle(Handle):
    """A ControlNet on a model.

    Args:
        model: The hub.
        network: The ControlNet, read for it.
        hint: The drawing.
        scale: How strongly it acts.
        start: From which fraction of the steps on.
        end: Up to which fraction.
        mode: See ``modes``.
        scales: The user's own weights of the outputs, shallow first.
        pooled: Whether its outputs are averaged over all positions and the conditional rows alone
            controlled, as of a ``shuffle`` network.
    """

    def __init__(
        self,
        model: nn.Module,
        network: Lent,
        hint: Hint,
        scale: Scale = 1.0,
        *,
        start: float = 0.0,
        end: float = 1.0,
        mode: str = BALANCED,
        scales: Sequence[float] | None = None,
        pooled: bool = False,
    ) -> None:
        count = len(network.network.zero_convs) + 1
        self._weights = output_weights(mode, soft_weights(count), scales)
        self._lent, self._hint, self._window, self._pooled = network, hint, (start, end), pooled
        self._conditional = pooled or mode not in (BALANCED, PROMPT)
        self._embedded: tuple[Any, Tensor] | None = None
        super().__init__(model, scale)
        self._unet = require_unet(model)
        self._unet.side_networks.append(self._join)

    def _release(self) -> None:
        self._unet.side_networks.remove(self._join)
        self._rest()

    def _rest(self) -> None:
        self._embedded = None
        self._lent.go_home()

    def _join(
        self, x: Tensor, timesteps: Tensor, context: Context, h: Tensor, skips: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Add the outputs to what the UNet's first half made; see ``SideNetwork``."""
        if not within(*self._window, self.follower.moment):
            return h, skips
        strength = self.strength()
        weights = [strength * weight for weight in self._weights]
        rows = self.follower.rows(len(x))
        chosen = chosen_rows(rows, self._conditional)
        if not any(weights) or not chosen:
            return h, skips
        some = None if len(chosen) == len(x) else chosen
        network = self._lent.to(x.device, self._unet.dtype)
        hint = self._hint.of_pictures(self._embed(network, x), [rows[i].picture for i in chosen])
        seen = (_rows(each, some) for each in (x[:, : network.in_channels], timesteps, context))
        outputs = self._weighed(network.controls(next(seen), hint, *seen), weights)
        added = [_add(each, out, some) for each, out in zip([*skips, h], outputs, strict=True)]
        return added[-1], added[:-1]

    def _embed(self, network: ControlNet, x: Tensor) -> Tensor:
        """Return the hint's embedding (n, C, h, w), made once for all steps of a walk."""
        key = x.shape[-2:], x.device, network.dtype
        if self._embedded is None or self._embedded[0] != key or torch.is_grad_enabled():
            hint = self._hint.at(tuple(x.shape[-2:])).to(x.device)
            self._embedded = key, network.embed_hint(hint)
        return self._embedded[1]

    def _weighed(self, outputs: Sequence[Tensor], weights: Sequence[float]) -> list[Tensor]:
        pairs = zip(outputs, weights, strict=True)
        weighed = [out if weight == 1.0 else out * weight for out, weight in pairs]
        return [o.mean(dim=(2, 3), keepdim=True) for o in weighed] if self._pooled else weighed


def _rows(value: Any, some: list[int] | None) -> Any:
    """Return some rows of a tensor, or of each in a list; None is all."""
    if some is None or value is None:
        return value
    return value[some] if isinstance(value, Tensor) else [each[some] for each in value]


def _add(features: Tensor, output: Tensor, some: list[int] | None) -> Tensor:
    """Return features with an output added to some rows, None to all; they are left as they are."""
    if some is None:
        return features + output
    whole = features.clone()
    whole[some] += output
    return whole
