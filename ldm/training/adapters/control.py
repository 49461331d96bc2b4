"""Train networks that obey drawings: ControlNets and T2I-Adapters.

ControlNet, arXiv:2302.05543; T2I-Adapter, arXiv:2302.08453.
Shapes: B batch, H W pixels of the drawing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ldm.adapters.control.drawn import DrawnHandle, Options
from ldm.adapters.control.features import FeatureHandle
from ldm.adapters.control.files import CLDM, DIFFUSERS, ORIGINAL
from ldm.adapters.control.filling import unet_of_layers
from ldm.adapters.control.hints import Hint
from ldm.adapters.control.nets import NetHandle
from ldm.adapters.control.reading import rate_of
from ldm.adapters.control.writing import check_form, write_control
from ldm.models.training_parts import pictures_from
from ldm.modules.diffusionmodules.control_net import HINT_RATE, control_net_like
from ldm.modules.diffusionmodules.t2i_adapter import UNSHUFFLE, T2IAdapter
from ldm.training.adapters.trainable import Trainable


class _Here:
    """A network that stays where it is: the Trainer moves it, and its own weights learn.

    Args:
        network: It takes the place of one that a walk is lent.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def to(self, device: torch.device, dtype: torch.dtype) -> nn.Module:  # noqa: ARG002 - Lent's
        """Return it."""
        return self.network

    def go_home(self) -> None:
        """Leave it there."""


class DrawingTraining(Trainable):
    """What trains by drawings, whichever network sees them.

    Args:
        network: The network.
        hint_key: Entry of a batch that holds the drawings (B, H, W, 3) in [0, 1].
        forms: The layouts to write; ``diffusers`` is a folder.

    Raises:
        UserError: A layout is unknown.
    """

    def __init__(self, network: nn.Module, hint_key: str, forms: Sequence[str]) -> None:
        super().__init__()
        self.network, self.hint_key, self.forms = network, hint_key, list(forms)
        self._handle: DrawnHandle | None = None

    def attach(self, model: nn.Module) -> DrawnHandle:
        """Let the model obey the drawings that ``see`` is shown."""
        self._handle = self._on(model, _Here(self.network))
        return self._handle

    @abstractmethod
    def _on(self, model: nn.Module, network: Any) -> DrawnHandle:
        """Put the network on a model, before a first drawing."""

    def see(self, batch: Mapping[str, Any], rows: int | None) -> None:
        """Look at a batch's drawings."""
        self._handle.show(pictures_from(batch, self.hint_key)[:rows])

    def shown(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """Return the drawings."""
        return {self.hint_key: 2.0 * pictures_from(batch, self.hint_key)[:rows] - 1.0}

    def save(self, folder: Path, name: str, header: Mapping[str, str]) -> list[Path]:
        """Write a file or a folder for each layout."""
        paths = []
        for form in self.forms:
            path = folder / (f"{name}.diffusers" if form == DIFFUSERS else f"{name}.safetensors")
            paths.append(write_control(self.network, path, form, header, self.file_dtype))
        return paths


class ControlNetTraining(DrawingTraining):
    """A ControlNet in training: a copy of the UNet's first half, whose outputs begin as zeros.

    Args:
        model: The hub.
        hint_key: See ``DrawingTraining``.
        hint_channels: Channels of the drawings: 3.
        forms: ``cldm`` and ``diffusers``.
    """

    kind = "controlnet"

    def __init__(
        self,
        model: nn.Module,
        hint_key: str = "hint",
        hint_channels: int = 3,
        forms: Sequence[str] = (CLDM,),
    ) -> None:
        for form in forms:
            check_form(form, is_net=True)
        unet = unet_of_layers(model)
        latent = getattr(model, "channels", unet.in_channels)  # an inpainting UNet has more
        network = control_net_like(unet, min(latent, unet.in_channels), hint_channels)
        copy_first_half(unet, network)
        super().__init__(network, hint_key, forms)

    def _on(self, model: nn.Module, network: Any) -> NetHandle:
        hint = Hint(_nothing(), "stretch", rate_of(model), HINT_RATE)
        return NetHandle(model, network, hint, 1.0, Options())


class T2IAdapterTraining(DrawingTraining):
    """A T2I-Adapter in training, full or light.

    Args:
        model: The hub.
        hint_key: See ``DrawingTraining``.
        hint_channels: 3, or 1 for drawings that are looked at in grey.
        light: Whether it is the light one.
        blocks: Residual blocks of a level; None is 2, or 4 for the light one.
        forms: ``TencentARC`` and ``diffusers``.
    """

    kind = "t2i-adapter"

    def __init__(
        self,
        model: nn.Module,
        hint_key: str = "hint",
        hint_channels: int = 3,
        light: bool = False,
        blocks: int | None = None,
        forms: Sequence[str] = (ORIGINAL,),
    ) -> None:
        for form in forms:
            check_form(form, is_net=False)
        widths = [level.width for level in unet_of_layers(model).layout.levels]
        blocks = (4 if light else 2) if blocks is None else blocks
        super().__init__(T2IAdapter(hint_channels, widths, blocks, light=light), hint_key, forms)

    def _on(self, model: nn.Module, network: Any) -> FeatureHandle:
        hint = Hint(_nothing(), "stretch", rate_of(model), UNSHUFFLE)
        return FeatureHandle(model, network, hint, 1.0, Options())


def _nothing() -> Tensor:
    """Return the drawing before the first batch; its values are looked at, also of a meta model."""
    return torch.zeros(1, 3, UNSHUFFLE, UNSHUFFLE, device="cpu")


@torch.no_grad()
def copy_first_half(unet: nn.Module, network: nn.Module) -> None:
    """Begin a ControlNet with the weights of a UNet's first half."""
    have = dict(unet.named_parameters())
    for name, parameter in network.named_parameters():
        if (own := have.get(name)) is not None:
            # An inpainting UNet's further channels are not the network's.
            parameter.copy_(own[:, : parameter.shape[1]] if parameter.ndim == 4 else own)
