"""Files of networks that make pictures larger: tiny ones, of spandrel's own modules."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn


def _compact() -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_feat=8, num_conv=3, upscale=2)


def _compact_of_grey() -> nn.Module:
    from spandrel.architectures.Compact import Compact

    return Compact(num_in_ch=1, num_out_ch=1, num_feat=8, num_conv=1, upscale=2)


def _esrgan() -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=8, num_blocks=1, scale=4)


def _unshuffled() -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(in_nc=12, num_filters=8, num_blocks=1, scale=4, shuffle_factor=2)


def _swinir() -> nn.Module:
    from spandrel.architectures.SwinIR import SwinIR

    sizes = {"embed_dim": 12, "depths": [2, 1], "num_heads": [2, 3], "window_size": 8}
    return SwinIR(**sizes, img_size=16, upscale=2, upsampler="pixelshuffle")


def _hat() -> nn.Module:
    from spandrel.architectures.HAT import HAT

    sizes = {"embed_dim": 12, "depths": (1, 2), "num_heads": (2, 3), "window_size": 8}
    return HAT(**sizes, squeeze_factor=4, img_size=16, upscale=2, num_feat=16)


def _dat() -> nn.Module:
    from spandrel.architectures.DAT import DAT

    sizes = {"embed_dim": 16, "depth": [2, 2], "num_heads": [2, 2], "split_size": [2, 4]}
    return DAT(**sizes, upscale=2)


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "Compact": _compact,
    "Compact of grey": _compact_of_grey,
    "ESRGAN": _esrgan,
    "ESRGAN that unshuffles": _unshuffled,
    "SwinIR": _swinir,
    "HAT": _hat,
    "DAT": _dat,
}


def random_network(kind: str, seed: int = 0) -> nn.Module:
    """Return a network of an architecture, in evaluation mode, with random weights."""
    torch.manual_seed(seed)
    return NETWORKS[kind]().eval()


def nearest_network(scale: int = 2) -> nn.Module:
    """Return a network that repeats pixels: what Compact adds to them is 0."""
    from spandrel.architectures.Compact import Compact

    network = Compact(num_feat=4, num_conv=1, upscale=scale).eval()
    for weight in network.parameters():
        nn.init.zeros_(weight)
    return network


def write_nearest(path: Path, scale: int = 2) -> Path:
    """Write such a network as Real-ESRGAN's files are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": nearest_network(scale).state_dict()}, path)
    return path


def as_real_esrgan(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an ESRGAN's weights under the names that Real-ESRGAN's files have."""
    renamed = {}
    for name, value in state.items():
        name = re.sub(
            r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3.", name
        )
        name = re.sub(r"model\.1\.sub\.\d+\.", "conv_body.", name)
        for old, new in (
            ("model.0.", "conv_first."),
            ("model.3.", "conv_up1."),
            ("model.6.", "conv_up2."),
            ("model.8.", "conv_hr."),
            ("model.10.", "conv_last."),
        ):
            name = name.replace(old, new)
        renamed[name] = value
    return renamed
