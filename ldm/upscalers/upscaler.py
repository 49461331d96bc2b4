"""A network that makes pictures larger, and what is to be known to use it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import lcm
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ldm.errors import UserError
from ldm.paths import identity
from ldm.upscalers.network import read_network

if TYPE_CHECKING:  # in the extra [upscale]
    from spandrel import ImageModelDescriptor

WINDOW = 16
"""Pixels. Networks with attention work in windows of 8 or 16, which tiles must not shift."""
COLOURS = 3


@dataclass(frozen=True, eq=False)
class Upscaler:
    """A loaded network.

    Attributes:
        name: The file's name without its ending: what pictures record.
        path: The file.
        network: The network, as spandrel describes it.
        device: Where it computes.
    """

    name: str
    path: Path
    network: ImageModelDescriptor
    device: torch.device

    @property
    def scale(self) -> int:
        """How many times larger each side becomes; 1 only restores."""
        return self.network.scale

    @property
    def architecture(self) -> str:
        """The architecture's name."""
        return self.network.architecture.name

    @property
    def multiple(self) -> int:
        """What the places of tiles must be multiples of, so that windows lie as in the whole."""
        return lcm(WINDOW, self.network.size_requirements.multiple_of)

    @property
    def tiles_itself(self) -> bool:
        """Whether it cuts pictures itself, so that nobody else should."""
        return self.network.tiling.name == "INTERNAL"

    @property
    def looks_far(self) -> bool:
        """Whether what it makes of a part depends on parts far away, so that tiles may differ."""
        return self.network.tiling.name == "DISCOURAGED"

    def summary(self) -> str:
        """Describe it in a few words."""
        grey = ", for greyscale: colour by colour" if self.network.input_channels == 1 else ""
        return f"{self.name} ({self.architecture}, {self.scale}x{grey})"

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """Make a picture larger.

        Args:
            x: Pixels (1, 3, H, W) in [0, 1], of any size; not modified.

        Returns:
            (1, 3, H s, W s) in [0, 1], float32 on the device of ``x``.
        """
        given = x.to(self.device)
        with torch.autocast(self.device.type, enabled=False):  # what the caller draws in
            return self._made(given).float().to(x.device)

    def _made(self, given: Tensor) -> Tensor:
        if self.network.input_channels == COLOURS:
            return self.network(given)
        # Each colour as a greyscale picture.
        return torch.cat([self.network(colour) for colour in given.split(1, dim=1)], dim=1)


def load_upscaler(path: str | Path, device: torch.device | str = "cpu") -> Upscaler:
    """Load a network that makes pictures larger.

    Args:
        path: A ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file.
        device: Where it is to compute.

    Raises:
        UserError: The file cannot be read, or holds something else.
    """
    path, device = Path(path), torch.device(device)
    network = read_network(path)
    if network.purpose == "FaceSR":
        raise UserError(
            f"{path} ({network.architecture.name}) restores single faces of a fixed size; "
            "expected a network for whole pictures; give it to scripts/restore_faces.py"
        )
    channels = network.input_channels, network.output_channels
    if channels not in ((COLOURS, COLOURS), (1, 1)):
        raise UserError(
            f"{path} ({network.architecture.name}) takes pictures of {channels[0]} channels and "
            f"makes some of {channels[1]}; expected 3 of each, for RGB, or 1; give another file"
        )
    network.model.to(device)
    return Upscaler(path.stem, path, network, device)


def kept_upscaler(path: str | Path, device: torch.device | str = "cpu") -> Upscaler:
    """Return what ``load_upscaler`` does; the last two stay loaded until their files change."""
    path = Path(path)
    return _kept(path, torch.device(device), identity(path))


@lru_cache(maxsize=2)
def _kept(path: Path, device: torch.device, _state: tuple | None) -> Upscaler:
    return load_upscaler(path, device)
