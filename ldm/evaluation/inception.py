"""Features of pictures for FID and KID: the Inception extractor, clean resizing, statistics.

The extractor is torch-fidelity's version of the FID paper's Inception network, with weights from
this machine. Pictures are first resized as in arXiv:2104.11222 ("clean" FID): each channel with
Pillow's bicubic filter, antialiased, in floating point. One thing differs: torch-fidelity's
network takes bytes, so the values are rounded after resizing.

Shape legend: B pictures of a batch, N of a set, D width of a feature (2048).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ldm.atomic import replacing
from ldm.checkpoint.io import read_checkpoint
from ldm.data.picture_set import PictureSet, in_batches
from ldm.errors import UserError
from ldm.paths import ERRORS, reason
from ldm.process.feature_distance import Gaussian

SIDE = 299  # pixels


class FeatureExtractor(Protocol):
    """Computes the features that pictures are compared by.

    Attributes:
        side: Width and height of its input pictures, in pixels.
        name: Its name in reports.
    """

    side: int
    name: str

    def __call__(self, pictures: Tensor) -> Tensor:
        """Return features (B, D) of pictures (B, 3, side, side), uint8, RGB."""


class Inception:
    """The 2048 features after the last pooling of Inception v3, on which FID is defined.

    Args:
        weights: The file that torch-fidelity and pytorch-fid publish, in any checkpoint format.
        device: Where to compute.

    Raises:
        UserError: the file is missing or holds another network, or torch-fidelity is missing.
    """

    side = SIDE
    name = "Inception v3, 2048 features"

    def __init__(self, weights: str | Path, device: torch.device) -> None:
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise UserError(
                "the torch-fidelity library is not installed; expected it for the Inception "
                'network; run pip install -e ".[train]"'
            ) from error
        tensors = read_checkpoint(weights).tensors
        # The library would unpickle the file unsafely; it gets what our safe reader read instead.
        safe = io.BytesIO()
        torch.save(tensors, safe)
        safe.seek(0)
        try:
            network = FeatureExtractorInceptionV3("inception", ["2048"], safe)
        except RuntimeError as error:
            raise UserError(
                f"--inception {weights} does not hold FID's Inception network "
                f"({str(error).splitlines()[-1].strip()[:120]}); expected "
                "weights-inception-2015-12-05-6726825d.pth of torch-fidelity; give that file"
            ) from error
        self._network, self._device = network.to(device).eval(), device

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        return self._network(pictures.to(self._device))[0].cpu()


def clean_resize(picture: Image.Image, side: int) -> np.ndarray:
    """Return a picture as uint8 (side, side, 3), resized as described at the top of this file."""
    if picture.size == (side, side):
        return np.asarray(picture)
    channels = [
        channel.convert("F").resize((side, side), Image.Resampling.BICUBIC)
        for channel in picture.split()
    ]
    resized = np.stack([np.asarray(channel) for channel in channels], axis=2)
    return np.clip(resized, 0, 255).round().astype(np.uint8)


def features_of(
    pictures: PictureSet,
    extractor: FeatureExtractor,
    batch_size: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Return the features (N, D) of a set's readable pictures.

    Args:
        pictures: The set.
        extractor: Computes them.
        batch_size: Pictures at a time.
        progress: Called with the number of pictures just done.

    Raises:
        UserError: fewer than two pictures can be read.
    """
    found = []
    for batch in in_batches(pictures.read(), batch_size):
        pixels = np.stack([clean_resize(picture, extractor.side) for _, picture in batch])
        found.append(extractor(torch.from_numpy(pixels).permute(0, 3, 1, 2)).float().cpu())
        progress(len(batch))
    pictures.require_readable()
    if sum(map(len, found)) < 2:
        raise UserError(
            f"{pictures.flag} {pictures.folder} has a single readable picture; expected two or "
            "more, whose spread FID and KID compare; add pictures"
        )
    return torch.cat(found)


def read_statistics(path: str | Path) -> Gaussian:
    """Read a Gaussian from an ``.npz`` with ``mu`` (D,) and ``sigma`` (D, D), as pytorch-fid's.

    Raises:
        UserError: it is not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(file[key]).double() for key in ("mu", "sigma"))
    except Exception as error:  # a damaged archive makes NumPy raise almost anything
        reason = " ".join(str(error).split())
        raise UserError(
            f"statistics {path} cannot be read ({reason}); expected an .npz with mu (D,) and "
            "sigma (D, D); write one by --save_stats"
        ) from error
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise UserError(
            f"statistics {path} have mu {tuple(mean.shape)} and sigma {tuple(covariance.shape)}; "
            "expected (D,) and (D, D); write them by --save_stats"
        )
    return Gaussian(mean, covariance)


def save_statistics(gaussian: Gaussian, path: str | Path) -> None:
    """Write a Gaussian in the format that ``read_statistics`` reads.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with replacing(path) as part, open(part, "wb") as file:
            np.savez(file, mu=gaussian.mean.numpy(), sigma=gaussian.covariance.numpy())
    except ERRORS as error:
        raise UserError(
            f"--save_stats {path} cannot be written ({reason(error)}); expected a file "
            "in a folder with space; give another one"
        ) from error
