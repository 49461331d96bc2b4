"""Scores of a picture against its reference picture: PSNR, SSIM, LPIPS.

Pictures of two folders form a pair if their names are equal apart from the extension.
Shape legend: H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm.data.picture_set import PictureSet
from ldm.errors import UserError
from ldm.paths import file_fault

SMALLEST_FOR_SSIM = 11  # pixels: its Gaussian window
Score = Callable[[Tensor, Tensor], float]
"""Compares two pictures (1, 3, H, W), float64 in [0, 1]."""


def psnr(fake: Tensor, real: Tensor) -> float:
    """Return the peak signal-to-noise ratio in decibels; infinite for equal pictures."""
    from torchmetrics.functional.image import peak_signal_noise_ratio

    return float(peak_signal_noise_ratio(fake, real, data_range=1.0))


def ssim(fake: Tensor, real: Tensor) -> float:
    """Return the structural similarity, 1 for equal pictures.

    Wang et al. 2004: a Gaussian window of 11 pixels, sigma 1.5, averaged over the channels.

    Raises:
        UserError: a side is smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    height, width = fake.shape[2:]
    if min(height, width) < SMALLEST_FOR_SSIM:
        raise UserError(
            f"SSIM of pictures of {width}x{height}; expected {SMALLEST_FOR_SSIM} pixels a side or "
            "more; leave ssim out of --metrics"
        )
    return float(structural_similarity_index_measure(fake, real, data_range=1.0))


def lpips_by(weights: str | Path | None, device: torch.device) -> Score:
    """Return the perceptual distance of arXiv:1801.03924, 0 for equal pictures.

    Args:
        weights: VGG-16's.
        device: Where to compute.

    Raises:
        UserError: the weights are missing, or are not VGG-16's.
    """
    fault = None if weights is None else file_fault(weights)
    if weights is None or fault:
        given = "no --lpips was given" if weights is None else f"--lpips {weights} {fault}"
        raise UserError(
            f"{given}; expected a file of VGG-16's weights such as torchvision's "
            "vgg16-397923af.pth; give one, or leave lpips out of --metrics"
        )
    from ldm.modules.losses.lpips import LPIPS

    network = LPIPS(weights).to(device)

    @torch.no_grad()
    def score(fake: Tensor, real: Tensor) -> float:
        a, b = (2.0 * x.float().to(device) - 1.0 for x in (fake, real))
        return float(network(a, b))

    return score


def pairs_of(real: PictureSet, fake: PictureSet) -> list[tuple[str, str]]:
    """Return the names of pictures that belong together, (real, fake).

    Raises:
        UserError: there are no pairs.
    """
    by_stem = {_stem(name): name for name in real.names}
    pairs = [(by_stem[_stem(name)], name) for name in fake.names if _stem(name) in by_stem]
    if not pairs:
        raise UserError(
            f"--real {real.folder} and --fake {fake.folder} have no pictures of the same name; "
            "expected pairs for psnr, ssim and lpips; name them alike"
        )
    return pairs


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def score_pairs(
    real: PictureSet,
    fake: PictureSet,
    scores: dict[str, Score],
    progress: Callable[[int], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Return every score of every pair whose two pictures can be read.

    Raises:
        UserError: a pair's pictures differ in size, or no pair can be read.
    """
    found: dict[str, list[float]] = {name: [] for name in scores}
    read = 0
    for names in pairs_of(real, fake):
        pictures = [next(each.read([name]), None) for each, name in zip((real, fake), names)]  # noqa: B905 - two and two
        progress(1)
        if None in pictures:
            continue
        read += 1
        (_, a), (_, b) = pictures
        if a.size != b.size:
            raise UserError(
                f"{real.folder / names[0]} is {a.width}x{a.height}, {fake.folder / names[1]} "
                f"{b.width}x{b.height}; expected the same size; resize one of them"
            )
        for name, score in scores.items():
            found[name].append(score(_unit(b), _unit(a)))
    if not read:
        raise UserError(
            f"of no pair of --real {real.folder} and --fake {fake.folder} both pictures can be "
            "read; expected whole picture files; check the folders"
        )
    return found


def _unit(picture: Image.Image) -> Tensor:
    """Return a picture as (1, 3, H, W), float64 in [0, 1]."""
    pixels = np.asarray(picture).transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(pixels))[None].double() / 255.0
