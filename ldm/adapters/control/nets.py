"""ControlNets: reading them in every layout that they are published in, and their part in a step.

Shapes: b rows of a call, n hints, C channels, h w latent sides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldm.adapters.control.drawn import DrawnHandle, Options, weighed
from ldm.adapters.control.files import DIFFUSERS, Found
from ldm.adapters.control.filling import check_base, fill, unet_of_layers
from ldm.adapters.control.hints import Hint
from ldm.adapters.control.lent import Lent
from ldm.adapters.control.modes import soft_weights
from ldm.adapters.handle import Scale
from ldm.adapters.report import Report
from ldm.checkpoint.diffusers.control_keymaps import control_from_diffusers
from ldm.errors import UserError
from ldm.modules.diffusionmodules.control_net import ControlNet, control_net_like
from ldm.types import Context

DIFFERENCE = "difference"
"""A key by which a file says that its copied weights are differences to the base model's."""
_CONTEXT = ".attn2.to_k.weight"


def read_net(found: Found, model: nn.Module) -> tuple[ControlNet, Report]:
    """Build a file's ControlNet beside a model's UNet.

    Raises:
        UserError: It is made for another model.
    """
    unet = unet_of_layers(model)
    report = Report(found.path, found.kind, found.form, notes=list(found.notes))
    widths = {v.shape[-1] for n, v in found.tensors.items() if n.endswith(_CONTEXT) and v.ndim == 2}
    check_base(min(widths, default=0), found, model, report)
    state = _named(found, unet, report)
    first = _channels(state, "input_blocks.0.0", found)
    hint = _channels(state, "input_hint_block.0", found)
    with torch.device("meta"):
        network = control_net_like(unet, first, hint)
    if found.form != DIFFUSERS and DIFFERENCE in state:
        report.form += " (difference)"
        state = _added(state, unet)
    fill(network, state, found, report)
    return network, report


def _named(found: Found, unet: nn.Module, report: Report) -> dict[str, Tensor]:
    """Return a file's weights under cldm's names."""
    if found.form != DIFFUSERS:
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


class NetHandle(DrawnHandle):
    """A ControlNet on a model.

    Args:
        model: The hub.
        network: The ControlNet, read for it.
        hint: The drawing.
        scale: How strongly it acts.
        options: When, where, and how its outputs are weighed.
        pooled: Whether its outputs are averaged over all positions and the conditional rows alone
            controlled, as of a ``shuffle`` network.
    """

    def __init__(
        self,
        model: nn.Module,
        network: Lent,
        hint: Hint,
        scale: Scale,
        options: Options,
        *,
        pooled: bool = False,
    ) -> None:
        soft = soft_weights(len(network.network.zero_convs) + 1)
        super().__init__(model, network, hint, scale, options, soft)
        self._conditional, self._pooled = self._conditional or pooled, pooled
        self._unet.side_networks.append(self._join)

    def _release(self) -> None:
        self._unet.side_networks.remove(self._join)
        super()._release()

    def _join(
        self, x: Tensor, timesteps: Tensor, context: Context, h: Tensor, skips: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Add the outputs to what the UNet's first half made; see ``SideNetwork``."""
        acting = self._acting(len(x))
        if acting is None:
            return h, skips
        network = self._lent.to(x.device, self._unet.dtype)
        hint = self._hint.of_pictures(self._embed(network, x), acting.pictures)
        x = x[:, : network.in_channels]  # the others are an inpainting model's own
        outputs = network.controls(acting.of(x), hint, acting.of(timesteps), acting.of(context))
        # Features that are reused had their part when they were computed.
        deep = [h] if len(skips) + 1 == len(outputs) else []
        added = []
        for features, out, weight in zip([*skips, *deep], outputs, acting.weights, strict=False):
            output = weighed(out, weight)
            output = output.mean(dim=(2, 3), keepdim=True) if self._pooled else output
            added.append(acting.add(features, output))
        return (added.pop() if deep else h), added

    def _embed(self, network: ControlNet, x: Tensor) -> Tensor:
        """Return the hint's embedding (n, C, h, w)."""
        size = tuple(x.shape[-2:])
        key = size, x.device, network.dtype
        return self._once(key, lambda: network.embed_hint(self._hint.at(size).to(x.device)))
