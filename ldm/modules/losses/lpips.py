"""LPIPS, the perceptual distance of two pictures in VGG-16's features: arXiv:1801.03924.

Weights come from this machine only. VGG-16's can be in any file that holds them: torchvision's
``vgg16-397923af.pth``, or a CompVis first stage (``loss.perceptual_loss.*``). The heads, about a
thousand numbers, are in the latter too, and ship with the packages ``lpips`` and ``torchmetrics``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from ldm.checkpoint.io import read_checkpoint
from ldm.errors import UserError
from ldm.paths import at_home, file_fault, is_file

VARIABLE = "LDM_LPIPS_WEIGHTS"
WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)
BUNDLED_HEADS = (
    ("lpips", "weights/v0.1/vgg.pth"),
    ("torchmetrics", "functional/image/lpips_models/vgg.pth"),
)


class VGGFeatures(nn.Module):
    """VGG-16 (arXiv:1409.1556, configuration D) up to its last ReLU, in five slices."""

    def __init__(self):
        super().__init__()
        index, before = 0, 3
        for number, (width, convolutions) in enumerate(zip(WIDTHS, CONVOLUTIONS, strict=True), 1):
            layers: list[nn.Module] = [] if number == 1 else [nn.MaxPool2d(2)]
            for _ in range(convolutions):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
                before = width
            piece = nn.Sequential()
            for layer in layers:  # named by the layer's number in the whole network
                piece.add_module(str(index), layer)
                index += 1
            setattr(self, f"slice{number}", piece)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the maps after relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""
        maps = []
        for number in range(1, 6):
            x = getattr(self, f"slice{number}")(x)
            maps.append(x)
        return maps


class Head(nn.Module):
    """Weight the channels of a squared difference."""

    def __init__(self, width: int):
        super().__init__()
        # CompVis's module has dropout before it, which is never active in a metric.
        self.model = nn.ModuleDict({"1": nn.Conv2d(width, 1, 1, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        return self.model["1"](x)


class LPIPS(nn.Module):
    """Distance of pictures, 0 for equal ones. Frozen, but gradients flow to the pictures.

    Args:
        path: File with VGG-16's weights; None reads the path from ``LDM_LPIPS_WEIGHTS``.

    Raises:
        UserError: No file is given, it does not hold VGG-16, or no heads are found.
    """

    def __init__(self, path: str | Path | None = None):
        super().__init__()
        self.net = VGGFeatures()
        for number, width in enumerate(WIDTHS):
            setattr(self, f"lin{number}", Head(width))
        # The mean and standard deviation of ImageNet's pixels, for pictures in [-1, 1].
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))
        self._load(find_weights(path))
        self.eval().requires_grad_(False)

    def _load(self, path: Path) -> None:
        tensors = _by_our_names(read_checkpoint(path).tensors)
        wanted = {k: v for k, v in self.state_dict().items() if k not in ("shift", "scale")}
        if not any(name.startswith("lin") for name in tensors):
            tensors |= _bundled_heads()
        wrong = [k for k, v in wanted.items() if k not in tensors or tensors[k].shape != v.shape]
        if wrong:
            raise UserError(
                f"{path}: {len(wrong)} of LPIPS's {len(wanted)} weights are absent or of another "
                f"shape ({wrong[0]}, ...); expected VGG-16 as torchvision's vgg16-397923af.pth has "
                "it, or a first stage that CompVis trained; give such a file"
            )
        self.load_state_dict({k: tensors[k] for k in wanted}, strict=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the distance (B, 1, 1, 1) of pictures (B, 3, H, W) in [-1, 1].

        Raises:
            ValueError: The pictures do not have three channels.
        """
        if input.shape != target.shape or input.shape[1] != 3:
            raise ValueError(
                f"LPIPS of {tuple(input.shape)} and {tuple(target.shape)}; expected (B, 3, H, W)"
            )
        pairs = zip(self._features(input), self._features(target), strict=True)
        with torch.autocast(input.device.type, enabled=False):
            distances = [
                getattr(self, f"lin{number}")((a - b).square()).mean((2, 3), keepdim=True)
                for number, (a, b) in enumerate(pairs)
            ]
        return torch.stack(distances).sum(0)

    def _features(self, x: Tensor) -> list[Tensor]:
        """Return maps of unit length at every position, in float32: section 3, Eq. 1."""
        maps = [h.float() for h in self.net((x - self.shift) / self.scale)]
        # Where all features are zero the square root's own gradient would be NaN.
        squares = [h.square().sum(1, keepdim=True).clamp_min(1e-30) for h in maps]
        return [h / (square.sqrt() + 1e-10) for h, square in zip(maps, squares, strict=True)]


def find_weights(path: str | Path | None) -> Path:
    """Return the file of VGG-16's weights: the given one, or the environment variable's.

    Raises:
        UserError: No file is given, or it does not exist.
    """
    given = path or os.environ.get(VARIABLE)
    fault = file_fault(at_home(given)) if given else None
    if given and fault is None:
        return at_home(given)
    found = f"{str(given)!r}, which {fault}" if given else "no weights"
    raise UserError(
        f"perceptual_weight is above 0 and LPIPS has {found}; expected a file of VGG-16's weights "
        "(torchvision's vgg16-397923af.pth) in lossconfig.params.perceptual_weights or "
        f"{VARIABLE}; give one, or set lossconfig.params.perceptual_weight=0"
    )


def _by_our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the parts of LPIPS from torchvision's and CompVis's names to ours."""
    with torch.device("meta"):
        slices = list(VGGFeatures().named_children())
    ours = {f"features.{n}": f"net.{name}.{n}" for name, piece in slices for n in piece._modules}
    renamed = {}
    for key, value in tensors.items():
        layer, _, parameter = key.rpartition("perceptual_loss.")[2].rpartition(".")
        renamed[f"{ours.get(layer, layer)}.{parameter}"] = value
    return renamed


def _bundled_heads() -> dict[str, Tensor]:
    for package, file in BUNDLED_HEADS:
        spec = find_spec(package)
        path = Path(spec.origin).parent / file if spec is not None and spec.origin else None
        if path is not None and is_file(path):
            return dict(read_checkpoint(path).tensors)
    raise UserError(
        "LPIPS's heads are neither in the file of its weights nor in an installed package; "
        "expected lpips or torchmetrics; install one: pip install lpips"
    )
