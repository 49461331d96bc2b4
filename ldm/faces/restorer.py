"""A network that redraws aligned faces: GFPGAN, RestoreFormer or CodeFormer.

spandrel holds their architectures; CodeFormer's, whose licence allows no commercial use, is in its
package spandrel_extra_arches. All three take and give values in [-1, 1], which spandrel's own call
does for one of them only: so the networks are called here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ldm.errors import UserError
from ldm.faces.placing import SIDE
from ldm.images.io import check_finite
from ldm.upscalers.network import read_network

if TYPE_CHECKING:  # in the extra [repair]
    from spandrel import ImageModelDescriptor

OWN_FIDELITY = 0.5
"""CodeFormer's w where none is asked for, as in its own program."""
_SEED = 0
Call = Callable[[nn.Module, Tensor, float], Tensor]


def _gfpgan(network: nn.Module, x: Tensor, _: float) -> Tensor:
    return network(x, return_rgb=False)[0]


def _restoreformer(network: nn.Module, x: Tensor, _: float) -> Tensor:
    return network(x)[0]


def _codeformer(network: nn.Module, x: Tensor, fidelity: float) -> Tensor:
    return network(x, weight=fidelity)[0]


CALLS: dict[str, Call] = {
    "GFPGAN": _gfpgan,
    "RestoreFormer": _restoreformer,
    "CodeFormer": _codeformer,
}
"""How each architecture is called with (1, 3, 512, 512) in [-1, 1]; it returns the like."""
BLENDED = ("GFPGAN", "RestoreFormer")
"""Architectures without a fidelity of their own: the given face is mixed in instead."""


@dataclass(frozen=True, eq=False)
class FaceRestorer:
    """A loaded network.

    Attributes:
        path: Its file.
        network: The network, as spandrel describes it.
        device: Where it computes.
    """

    path: Path
    network: ImageModelDescriptor
    device: torch.device

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def architecture(self) -> str:
        """``GFPGAN``, ``RestoreFormer`` or ``CodeFormer``."""
        return self.network.architecture.name

    @property
    def blends(self) -> bool:
        """Whether fidelity mixes the given face in, as the network has no fidelity of its own."""
        return self.architecture in BLENDED

    def fidelity(self, asked: float | None) -> float:
        """Return the fidelity that is used: what is asked for, or what is usual."""
        usual = 0.0 if self.blends else OWN_FIDELITY
        return usual if asked is None else asked

    @torch.inference_mode()
    def __call__(self, face: np.ndarray, fidelity: float | None = None) -> np.ndarray:
        """Return a face redrawn.

        GFPGAN draws noise: the same for every face, and without touching the global generator.

        Args:
            face: Aligned, uint8 (512, 512, 3), RGB; not modified.
            fidelity: From 0, all that the network adds, to 1, close to the given face. None is
                0.5 for CodeFormer and 0 for the others, where it is the given face's share.

        Raises:
            UserError: The network computed NaN.
        """
        if face.shape != (SIDE, SIDE, 3) or face.dtype != np.uint8:
            raise ValueError(f"a face of {face.dtype} {face.shape}; uint8 (512, 512, 3) is wanted")
        weight = self.fidelity(fidelity)
        x = torch.from_numpy(face.transpose(2, 0, 1).copy())[None].to(self.device)
        x = x.float() / 127.5 - 1.0
        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            torch.manual_seed(_SEED)
            made = CALLS[self.architecture](self.network.model, x, weight).float()
        check_finite(made, "face", lambda: "check the file of the network")
        if self.blends:
            made = torch.lerp(made, x, weight)
        pixels = (made.clamp(-1.0, 1.0) + 1.0).mul(127.5).round().byte()
        return pixels[0].permute(1, 2, 0).cpu().numpy()


def load_restorer(path: str | Path, device: torch.device | str = "cpu") -> FaceRestorer:
    """Load a network that redraws faces.

    Args:
        path: A ``.pth``, ``.pt``, ``.ckpt`` or ``.safetensors`` file.
        device: Where it is to compute.

    Raises:
        UserError: The file cannot be read, holds something else, or a package is not installed.
    """
    path, device = Path(path), torch.device(device)
    network = read_network(path, "GFPGAN, RestoreFormer or CodeFormer")
    name = network.architecture.name
    if name not in CALLS:
        raise UserError(
            f"{path} is a network of {name}, which does not redraw single faces; expected GFPGAN, "
            "RestoreFormer or CodeFormer; give a network for whole pictures to scripts/upscale.py"
        )
    network.model.to(device)
    return FaceRestorer(path, network, device)
