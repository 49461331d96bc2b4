"""T2I-Adapters, full and light: reading them, and where their features join the UNet.

Shapes: n hints, C_i, h_i, w_i a level's features.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.control.drawn import DrawnHandle, Options, weighed
from ldm.adapters.control.files import LIGHT, Found
from ldm.adapters.control.filling import fill, unet_of_layers
from ldm.adapters.control.hints import Hint
from ldm.adapters.control.lent import Lent
from ldm.adapters.control.modes import soft_features
from ldm.adapters.handle import Scale
from ldm.adapters.report import Report, base_of_model
from ldm.checkpoint.diffusers.control_keymaps import adapter_from_original
from ldm.errors import UserError
from ldm.modules.diffusionmodules.t2i_adapter import UNSHUFFLE, T2IAdapter

_V1 = (320, 640, 1280, 1280)
XL_UNSHUFFLE = 16


def read_adapter(found: Found, model: nn.Module) -> tuple[T2IAdapter, Report]:
    """Build a file's T2I-Adapter for a model's UNet.

    Raises:
        UserError: It is made for another model.
    """
    unet, light = unet_of_layers(model), found.kind == LIGHT
    widths = tuple(level.width for level in unet.layout.levels)
    report = Report(found.path, found.kind, found.form, notes=list(found.notes))
    state = adapter_from_original(found.tensors, len(widths))
    channels = _channels(state, "body.0.in_conv.weight" if light else "conv_in.weight", found)
    blocks = sum(bool(re.fullmatch(r"body\.0\.resnets\.\d+\.block1\.weight", n)) for n in state)
    with torch.device("meta"):
        network = T2IAdapter(channels, widths, blocks, light=light)
    fill(network, state, found, report)
    report.base = "v1" if widths == _V1 else f"models of widths {', '.join(map(str, widths))}"
    if widths == _V1 and (base := base_of_model(model)) != "v1":
        report.notes.append(
            f"{found.path.name}: T2I-Adapters are made for v1; the model is one of {base}, and may "
            "follow the drawing badly"
        )
    return network, report


def _channels(state: dict[str, Tensor], name: str, found: Found) -> int:
    """Return the channels of the drawing that an adapter sees."""
    weight = state.get(name)
    pixels = weight.shape[1] if weight is not None and weight.ndim == 4 else 0
    if pixels in (XL_UNSHUFFLE**2, 3 * XL_UNSHUFFLE**2):
        raise UserError(
            f"{found.kind} {found.name} is made for SDXL (it sees blocks of {XL_UNSHUFFLE}x"
            f"{XL_UNSHUFFLE} pixels); expected one for SD v1; give such a file"
        )
    channels, rest = divmod(pixels, UNSHUFFLE**2)
    if channels not in (1, 3) or rest:
        raise UserError(
            f"{found.kind} {found.name} takes {pixels} channels in; expected {UNSHUFFLE**2} or "
            f"{3 * UNSHUFFLE**2}, those of a grey or coloured drawing; download the file again"
        )
    return channels


class FeatureHandle(DrawnHandle):
    """A T2I-Adapter on a model.

    Args:
        model: The hub.
        network: The adapter, read for it.
        hint: The drawing.
        scale: How strongly it acts.
        options: When, where, and how its features are weighed.
    """

    def __init__(
        self, model: nn.Module, network: Lent, hint: Hint, scale: Scale, options: Options
    ) -> None:
        soft = soft_features(len(network.network.body))
        super().__init__(model, network, hint, scale, options, soft)
        self._hooks = [
            self._unet.input_blocks[place].register_forward_hook(self._hook(level))
            for level, place in enumerate(ends_of_levels(self._unet))
        ]

    def _release(self) -> None:
        for hook in self._hooks:
            hook.remove()
        super()._release()

    def _hook(self, level: int) -> Any:
        def add(_module: nn.Module, _inputs: Any, h: Tensor) -> Tensor:
            acting = self._acting(len(h))
            if acting is None or not acting.weights[level]:
                return h
            features = self._features(h, level)[level].to(h.dtype)
            output = self._hint.of_pictures(features, acting.pictures)
            return acting.add(h, weighed(output, acting.weights[level]))

        return add

    def _features(self, h: Tensor, level: int) -> list[Tensor]:
        """Return the features of all levels, given a level's own (B, C_i, h_i, w_i)."""
        if level == 0:
            self._latent = tuple(h.shape[-2:])
        size, device = self._latent, h.device
        return self._once((size, device), lambda: self._make(size, device))

    def _make(self, size: tuple[int, int], device: torch.device) -> list[Tensor]:
        network = self._lent.to(device, self._unet.dtype)
        hint = self._hint.at(size).to(device, self._unet.dtype)
        grey = hint.mean(dim=1, keepdim=True) if network.channels == 1 else hint
        return network(grey)


def ends_of_levels(unet: nn.Module) -> list[int]:
    """Return the input blocks at which the UNet's levels end: 2, 5, 8, 11 in SD v1."""
    ends, place = [], 0
    for level in unet.layout.levels:
        place += level.res_blocks
        ends.append(place)
        place += 1  # what halves the map
    return ends
