"""Read a network for pictures from a file of any architecture that spandrel knows, safely.

spandrel tells the architecture from names and shapes of the weights. The file itself is read by
``ldm.checkpoint``, which runs nothing that a pickle asks for; spandrel's own loaders are not used.
"""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ldm.checkpoint.claims import within_budget
from ldm.checkpoint.io import read_checkpoint
from ldm.checkpoint.names import EMA_PREFIX, ema_name, modern
from ldm.errors import UserError, in_words, is_out_of_memory

if TYPE_CHECKING:  # in the extra [upscale]
    from spandrel import ImageModelDescriptor

# Layers are counted by their numbers in names; HAT-L's go up to 11.
_HUGE_NUMBER = re.compile(r"(?:^|\.)\d{5,}(?:\.|$)")
_POSITIONS = "rpe_biases"
_WIDEST = 1024  # of widths that files state in numbers
_EXTRA = "spandrel_extra_arches"
LARGER = "ESRGAN, Real-ESRGAN, SwinIR, HAT, DAT or another of its list"
"""What is expected of a file that is to make pictures larger."""


def read_network(path: str | Path, wanted: str = LARGER) -> ImageModelDescriptor:
    """Read a network that turns a picture into a picture.

    Where a file holds averaged weights beside the last ones (``params_ema``), they are taken, as
    Real-ESRGAN's own program does.

    Args:
        path: A file of ``torch.save`` or a safetensors file.
        wanted: The architectures that are expected, for the message of another file.

    Returns:
        spandrel's description, with the network in evaluation mode, in float32, on the CPU.

    Raises:
        UserError: It cannot be read, is of no known architecture, or does something else, such as
            inpainting; or spandrel is not installed.
    """
    spandrel = _spandrel()
    tensors = _averaged(read_checkpoint(path).tensors)
    _check_claims(tensors, path)
    try:
        # Layers draw their first weights: a run's random numbers are not to depend on that.
        with within_budget(), torch.random.fork_rng(devices=[]):
            network = spandrel.MAIN_REGISTRY.load(tensors)
    except UserError:
        raise
    except spandrel.UnsupportedModelError as error:
        raise _unknown(path, tensors, wanted) from error
    except Exception as error:  # a file that only resembles an architecture's can fail anyhow
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"{path} looks like a network of an architecture that spandrel knows, but does not "
            f"fit it ({in_words(error)}); expected all of its weights; get the file again"
        ) from error
    if not isinstance(network, spandrel.ImageModelDescriptor):
        raise UserError(
            f"{path} is a network of {network.architecture.name} for {network.purpose.lower()}; "
            "expected one that turns a picture into a picture; give another file"
        )
    network.model.float().requires_grad_(False).eval()
    return network


def _spandrel():
    """Import spandrel, with the further architectures where those are installed."""
    try:
        import spandrel
    except ModuleNotFoundError as error:
        raise UserError(
            "networks that make pictures larger need the package spandrel, which is not "
            'installed; run: pip install -e ".[upscale]"'
        ) from error
    try:
        import spandrel_extra_arches
    except ModuleNotFoundError:
        return spandrel
    spandrel_extra_arches.install(ignore_duplicates=True)
    return spandrel


def _averaged(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a file's averaged weights under the weights' names, or its weights."""
    own = {name: value for name, value in tensors.items() if not name.startswith(EMA_PREFIX)}
    averages = {name: tensors.get(ema_name(modern(name))) for name in own}
    if any(value is None for value in averages.values()):
        return own
    return averages


def _check_claims(tensors: dict[str, Tensor], path: str | Path) -> None:
    """Refuse names and numbers from which spandrel would work out a network of no honest size.

    Raises:
        UserError: A layer's number, or a table's entry, is beyond all that is.
    """
    for name, value in tensors.items():
        if _HUGE_NUMBER.search(name) or _is_beyond(name, value, tensors):
            raise UserError(
                f"{path} describes a network of impossible size (by its tensor {name[:100]!r}); "
                "expected the weights of a network; get the file from its author"
            )


def _is_beyond(name: str, value: Tensor, tensors: dict[str, Tensor]) -> bool:
    """Check whether numbers that are sizes say more than other tensors of the file confirm."""
    if name.endswith(_POSITIONS):  # DAT takes a window's sides from the last of them
        index = tensors.get(name.removesuffix(_POSITIONS) + "relative_position_index")
        sides = (
            (value.reshape(-1, 2)[-1] + 1).tolist() if value.numel() % 2 == 0 < value.ndim else []
        )
        return index is None or len(sides) != 2 or prod(sides) ** 2 != index.numel()
    if value.ndim == 0 or value.is_floating_point() or value.is_complex() or not value.numel():
        return False
    return int(value.long().abs().max()) > 4 * value.numel() + _WIDEST


def _unknown(path: str | Path, tensors: dict[str, Tensor], wanted: str) -> UserError:
    import importlib.util

    names = ", ".join(sorted(tensors)[:3])
    extra = (
        ""
        if importlib.util.find_spec(_EXTRA)
        else f"; a few, whose licences are not free for all uses, are in the package {_EXTRA}"
    )
    return UserError(
        f"{path} holds weights of no architecture that spandrel knows (names such as {names}); "
        f"expected {wanted}{extra}; give another file"
    )
