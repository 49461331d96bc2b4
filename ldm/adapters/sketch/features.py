"""A UNet's features: which blocks' outputs the edge predictor sees, and how noisy they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ldm.adapters.handle import require_unet
from ldm.errors import UserError

KIND = "sketch"


class FeatureTap:
    """Keeps what some blocks of a UNet return, between ``with`` and its end.

    Attributes:
        features: Of each block, in order, from the last call of the UNet.
    """

    def __init__(self, model: nn.Module, blocks: Sequence[str]) -> None:
        unet = require_unet(model)
        self._modules = [unet.get_submodule(name) for name in blocks]
        self._found: dict[int, Tensor] = {}
        self._hooks: list[Any] = []

    def __enter__(self) -> FeatureTap:
        for number, module in enumerate(self._modules):
            self._hooks.append(module.register_forward_hook(self._keep(number)))
        return self

    def __exit__(self, *_: Any) -> None:
        while self._hooks:
            self._hooks.pop().remove()

    @property
    def features(self) -> list[Tensor]:
        return [self._found[number] for number in range(len(self._modules))]

    def _keep(self, number: int) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ARG001
            self._found[number] = output

        return keep


def papers_blocks(unet: nn.Module) -> list[str]:
    """Return the blocks that the paper takes; in a UNet of another depth those in their places.

    Of Stable Diffusion's twelve on either side these are 2, 4 and 8; and all of the middle.
    """
    found = []
    for half in ("input_blocks", "output_blocks"):
        count = len(getattr(unet, half))
        found += [f"{half}.{round(count * place / 12)}" for place in (2, 4, 8)]
    middle = [f"middle_block.{number}" for number in range(len(unet.middle_block))]
    return found[:3] + middle + found[3:]


def width_of(unet: nn.Module, name: str) -> int:
    """Return how many channels a block of a UNet returns.

    Raises:
        UserError: There is no such block, or it does not say.
    """
    try:
        block = unet.get_submodule(name)
    except AttributeError:
        block = None
    last = block[-1] if isinstance(block, nn.Sequential) and len(block) else block
    # Attention returns as many channels as it is given.
    width = getattr(last, "out_channels", getattr(last, "in_channels", None))
    if not isinstance(width, int) or not name.startswith(("input_", "middle_", "output_")):
        raise UserError(
            f"{name!r} is given as a block of the UNet whose features are looked at; expected one "
            "such as input_blocks.2, middle_block.0 or output_blocks.4; correct blocks"
        )
    return width


def noise_level(model: Any, t: Tensor) -> Tensor:
    """Return the noise std (B,) of latents at model times (B,)."""
    a = model.alphas_cumprod[t.round().long().clamp(0, len(model.alphas_cumprod) - 1)]
    return (1.0 - a).sqrt()
