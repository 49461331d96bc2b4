"""Make BSRGAN's Gaussian blur kernels, and blur pictures with them.

Shapes: pictures (H, W, C) float32 in [0, 1]; kernels (k, k) float64 that sum to 1.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import conv2d


def gaussian_kernel(size: int, covariance: np.ndarray) -> np.ndarray:
    """Sample a centred Gaussian density at ``size`` x ``size`` points one pixel apart.

    Args:
        size: Side in pixels; if even, the centre is between pixels.
        covariance: (2, 2) in pixels squared, order (x, y).
    """
    offsets = np.arange(size) - (size - 1) / 2
    points = np.stack(np.meshgrid(offsets, offsets), axis=-1)  # (k, k, 2): x, y
    precision = np.linalg.inv(covariance)
    distances = np.einsum("yxi,ij,yxj->yx", points, precision, points)
    weights = np.exp(-0.5 * (distances - distances.min()))  # else narrow ones underflow to zero
    return weights / weights.sum()


def covariance(variances: tuple[float, float], angle: float) -> np.ndarray:
    """Return the (2, 2) covariance with these variances (pixels squared) along rotated axes.

    Variances below 1e-6 are raised to it: a Gaussian without width has no density.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    axes = np.array([[cos, -sin], [sin, cos]])
    return axes @ np.diag(np.maximum(variances, 1e-6)) @ axes.T


def shifted_kernel(kernel: np.ndarray, sf: int) -> np.ndarray:
    """Move a kernel by (sf - 1) / 2 pixels to the upper left, and normalise it.

    Every ``sf``-th pixel of a picture blurred with it is then centred on its block of pixels, not
    on the block's first pixel.
    """
    places = np.arange(len(kernel), dtype=np.float64)
    wanted = np.clip(places + (sf - 1) * 0.5, 0, len(kernel) - 1)
    moved = np.stack([np.interp(wanted, places, row) for row in kernel])
    moved = np.stack([np.interp(wanted, places, column) for column in moved.T], axis=1)
    return moved / moved.sum()


def blur(picture: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Convolve each channel; the picture is mirrored beyond its border.

    An even kernel's centre is pixel k // 2, as in ``scipy.ndimage.convolve(mode="mirror")``.
    """
    size = len(kernel)
    before = (size - 1) // 2
    after = size - 1 - before
    padded = np.pad(picture, ((before, after), (before, after), (0, 0)), mode="reflect")
    channels = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[:, None]
    # conv2d correlates; flipping the kernel makes it a convolution.
    weight = torch.from_numpy(np.ascontiguousarray(kernel[::-1, ::-1], dtype=np.float32))
    return conv2d(channels, weight[None, None])[:, 0].numpy().transpose(1, 2, 0)
